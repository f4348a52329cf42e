"""Forms of the flows: every field explained, defaults that pass, wrong values refused by the schema alone."""

from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import is_valid_schema, validate

from specdyn.flows.engine import settings as flow_settings
from specdyn.flows.engine.settings import ALLOWED, STORE, chosen_store
from specdyn.flows.service.checked_form import checked_schema
from specdyn.flows.service.deployments import FLOWS
from specdyn.models.experiments.base import experiment_names, get_experiment
from specdyn.models.spec.parts import OPTIMIZERS
from specdyn.models.spec.settings import settings_of
from specdyn.storage.places import Store
from specdyn.tasks.spectra.analysis import analysis_names


def schema(verb: str) -> dict[str, Any]:
    return parameter_schema(FLOWS[verb].fn).model_dump_for_openapi()


def refusals(verb: str, **values: Any) -> list[str]:
    """What Prefect's server says of a form with these values and the defaults for all else."""
    form = {name: field["default"] for name, field in schema(verb)["properties"].items() if "default" in field}
    found = validate({**form, **values}, schema(verb), raise_on_error=False, preprocess=False)
    return [error.message for error in found]


@pytest.mark.parametrize("verb", FLOWS)
def test_every_field_has_a_title_and_a_description(verb: str) -> None:
    fields = schema(verb)["properties"]
    assert len(fields) > 8
    for name, field in fields.items():
        assert field["title"] != name and field["title"][0].isupper(), name
        assert field["description"].endswith("."), name
    assert len({field["title"] for field in fields.values()}) == len(fields)
    for name, field in schema(verb)["definitions"]["Resources"]["properties"].items():
        assert field["title"] in ("CPUs", "GPUs", "CPU if no GPU") and field["description"].endswith("."), name
    is_valid_schema(schema(verb))


@pytest.mark.parametrize("verb", FLOWS)
def test_defaults_pass(verb: str) -> None:
    required = {"analyse": {"sources": ["somewhere"]}}
    assert refusals(verb, **required.get(verb, {})) == []


def test_choices_match_the_code() -> None:
    fields = schema("run")["properties"]
    assert fields["experiment"]["enum"] == experiment_names()
    assert fields["optimizers"]["items"]["enum"] == list(OPTIMIZERS)
    assert fields["analyses"]["items"]["enum"] == analysis_names()
    assert {"usual", "paper", "sample", "smoke", "demo"} <= set(fields["preset"]["enum"])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"experiment": "nothing"}, "'nothing' is not one of"),
        ({"preset": "nothing"}, "'nothing' is not one of"),
        ({"weight_decays": [0.1, -1.0]}, "-1.0 is less than the minimum of 0"),
        ({"seeds": [-1]}, "-1 is less than the minimum of 0"),
        ({"seeds": ["one"]}, "'one' is not of type 'integer'"),
        ({"more_seeds": -1}, "-1 is less than the minimum of 0"),
        ({"optimizers": ["adamw", "magic"]}, "'magic' is not one of"),
        ({"analyses": ["magic"]}, "'magic' is not one of"),
        ({"executor": "slurm"}, "'slurm' is not one of"),
        ({"resources": {"cpus": 0}}, "0 is less than the minimum of 1"),
        ({"axes": {"learning_rate": 0.1}}, "0.1 is not of type 'array'"),
    ],
)
def test_wrong_values_are_refused_by_the_form(values: dict[str, Any], said: str) -> None:
    assert any(said in message for message in refusals("run", **values)), refusals("run", **values)


EXPERT = ["store", "executor", "ray_address", "resources"]
FIRST = {
    "run": ["experiment", "preset", "weight_decays", "seeds"],
    "connect": ["experiment", "preset", "settings", "seeds", "splits"],
    "tickets": ["experiment", "preset", "settings", "seeds", "densities", "masks"],
    "analyse": ["sources", "name", "labels", "metrics"],
}


@pytest.mark.parametrize("verb", FLOWS)
def test_a_form_begins_with_what_everybody_chooses_and_ends_with_what_experts_do(verb: str) -> None:
    """The UI orders fields by their position."""
    fields = schema(verb)["properties"]
    shown = sorted(fields, key=lambda name: fields[name]["position"])
    assert shown[: len(FIRST[verb])] == FIRST[verb]
    assert shown[-len(EXPERT) :] == EXPERT


def test_texts_are_of_their_own_flow() -> None:
    texts = {verb: " ".join(field["description"] for field in schema(verb)["properties"].values()) for verb in FLOWS}
    for verb, foreign in {
        "run": ("fork", "prune", "mask", "line"),
        "connect": ("prune", "mask", "ticket"),
        "tickets": ("fork", "line", "branch"),
        "analyse": ("retrain", "fork", "ticket", "weight decays"),
    }.items():
        assert [word for word in foreign if f" {word}" in texts[verb].lower().replace("`inline`", "")] == [], verb


@pytest.mark.parametrize(
    ("verb", "values", "said"),
    [
        ("run", {"experiment": "image_classification", "preset": "demo"}, "'demo' is not one of ['usual', 'paper'"),
        ("connect", {"preset": "lenet"}, "'lenet' is not one of"),
        ("tickets", {"experiment": "speech_recognition", "preset": "mlp"}, "'mlp' is not one of"),
        ("run", {"settings": {"lr": 1}}, "'lr' is not one of"),
        ("run", {"axes": {"widht": [1]}}, "'widht' is not one of"),
        ("analyse", {"sources": ["a"], "sauces": ["a"]}, "('sauces' was unexpected)"),
        ("run", {"weight_decay": 1}, "('weight_decay' was unexpected)"),
    ],
)
def test_what_does_not_fit_together_is_refused_when_the_run_is_made(
    verb: str, values: dict[str, Any], said: str
) -> None:
    """By the rules that a deployment has beside the types of its fields, as Prefect's server applies them."""
    rules = checked_schema(FLOWS[verb]).model_dump(exclude_unset=True)
    is_valid_schema(rules)
    found = validate(values, rules, raise_on_error=False, preprocess=True, ignore_required=True)
    assert [error.message for error in found if said in error.message], found


@pytest.mark.parametrize("verb", FLOWS)
@pytest.mark.parametrize("allowed", [(), ("/shared/a+b", "s3://lab/specdyn")])
def test_a_store_that_the_service_does_not_allow_is_refused_when_the_run_is_made(
    verb: str, allowed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same stores as the flow itself, which refuses what leaves one of them by `..` too."""
    monkeypatch.setenv(ALLOWED, " ".join(allowed))
    monkeypatch.setenv(STORE, allowed[0] if allowed else "results")
    monkeypatch.setattr(flow_settings, "require_store", Store)
    rules = checked_schema(FLOWS[verb]).model_dump(exclude_unset=True)
    is_valid_schema(rules)
    inside = ("", "/shared/a+b", "/shared/a+b/", "/shared/a+b/mine", "file:///shared/a+b", "s3://lab/specdyn/x")
    outside = (
        "/",
        "/elsewhere",
        "/shared",
        "/shared/a+bc",
        "/shared/aab",
        "s3://lab",
        "s3://lab/specdyn-2",
        "/x/shared/a+b",
    )
    for store in (*inside, *outside):
        found = validate({"store": store}, rules, raise_on_error=False, preprocess=True, ignore_required=True)
        taken = not allowed or store in inside
        assert ["does not match" in one.message for one in found] == ([] if taken else [True])
        if taken:
            chosen_store(store)
        else:
            with pytest.raises(ValueError, match="one that this service may write to"):
                chosen_store(store)


@pytest.mark.parametrize(
    ("verb", "values"),
    [
        ("run", {}),
        ("run", {"preset": "mlp", "settings": {"width": 32, "steps": 10}, "axes": {"prime": [13]}}),
        (
            "run",
            {
                "experiment": "image_classification",
                "preset": "lenet",
                "settings": dict.fromkeys(settings_of(get_experiment("image_classification").preset("lenet").spec), 1),
            },
        ),
        ("connect", {"experiment": "language_modelling", "preset": "smoke"}),
        ("analyse", {"sources": ["somewhere"]}),
    ],
)
def test_what_fits_together_is_taken(verb: str, values: dict[str, Any]) -> None:
    rules = checked_schema(FLOWS[verb]).model_dump(exclude_unset=True)
    assert validate(values, rules, raise_on_error=False, preprocess=True) == []
