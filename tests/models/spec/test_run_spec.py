"""Identity of a run: canonical JSON, run_id, refusals."""

import dataclasses
import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from specdyn.models.datasets.decoders.modular_addition import ModularAddition
from specdyn.models.experiments.base import get_experiment, read_spec
from specdyn.models.nets.mlp import Mlp
from specdyn.models.nets.transformer import Transformer
from specdyn.models.spec.parts import Decay, Norms, Numerics, Optimizer, Record, Schedule
from specdyn.models.spec.run_spec import (
    ORDER,
    RunSpec,
    from_json,
    from_settings,
    hyperparameters,
    own_settings,
    to_json,
)
from specdyn.models.spec.settings import with_settings

STORED = Path(__file__).resolve().parents[2] / "fixtures" / "run_specs.txt"
PAPER = get_experiment("modular_addition").preset("paper").spec
CANONICAL = (
    '{"beta2":0.98,"data":{"type":"ModularAddition"},"experiment":"modular_addition",'
    '"net":{"type":"Transformer"},"steps":40000,"type":"RunSpec","weight_decay":1.0}'
)


def smallest(**settings: object) -> RunSpec:
    least = {"experiment": "modular_addition", "net": Mlp(), "data": ModularAddition(), "steps": 1}
    return from_settings(**{**least, **settings})


def test_the_run_id_of_the_paper_is_frozen() -> None:
    # If this fails, a default or the canonical form has changed, and no stored run is found any more.
    assert PAPER.run_id == "a61b41b4348f"


def test_the_canonical_json_has_sorted_keys_and_no_defaults() -> None:
    assert to_json(PAPER) == CANONICAL
    assert PAPER.run_id == hashlib.sha256(CANONICAL.encode()).hexdigest()[:12]


DEFAULTS = {
    RunSpec: {"batch_size": None, "accumulate": 1, "seed": 0, "start": None, "source": ""},
    Optimizer: {
        "name": "adamw",
        "learning_rate": 1e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "momentum": 0.0,
        "nesterov": False,
        "sam_radius": 0.05,
        "clip_norm": None,
    },
    Schedule: {"name": "constant", "warmup": 0, "milestones": (), "period": 0},
    Decay: {"weight_decay": 0.0, "kind": "l2", "on": "all", "after": 0, "until": None},
    Norms: {"control": "none", "run": ""},
    Numerics: {"precision": "float32", "tf32": False, "compile": False, "deterministic": True},
    Record: {
        "checkpoint_every": 100,
        "early_checkpoints": 0,
        "eval_batch_size": 16384,
        "eval_examples": None,
        "decay": False,
    },
    Transformer: {"width": 128, "heads": 4, "feedforward": 512, "depth": 1, "layernorm": False},
    Mlp: {"width": 100, "hidden_layers": 4},
    ModularAddition: {"prime": 113, "train_fraction": 0.3, "mirrored_together": False},
}
"""Frozen: a default is left out of the run_id, so another one would give old runs a new meaning. Add, never change."""


@pytest.mark.parametrize("kind", DEFAULTS)
def test_defaults_are_frozen(kind: type) -> None:
    found = {field.name: field.default for field in dataclasses.fields(kind)}
    assert {name: value for name, value in found.items() if value is not dataclasses.MISSING} == DEFAULTS[kind]


@pytest.mark.parametrize("line", STORED.read_text().splitlines(), ids=lambda line: line[:12])
def test_specs_that_stores_have_keep_their_json_and_their_id(line: str) -> None:
    # Frozen, from before the settings lay in parts: presets, branches, and every setting off its default.
    run_id, text = line.split(" ", 1)
    spec = read_spec(text, json.loads(text)["experiment"])
    assert (to_json(spec), spec.run_id) == (text, run_id)


def test_settings_have_the_same_names_whatever_part_they_lie_in() -> None:
    run = RunSpec(
        experiment="modular_addition",
        net=Mlp(),
        data=ModularAddition(),
        steps=9,
        optimizer=Optimizer(name="sgd", learning_rate=0.5),
        schedule=Schedule(name="warmup", warmup=3),
        decay=Decay(weight_decay=0.25, on="hidden", after=2, until=7),
        norms=Norms(run="0123456789ab"),
        numerics=Numerics(tf32=True),
        record=Record(checkpoint_every=4),
    )
    settings = {
        **{"optimizer": "sgd", "learning_rate": 0.5, "schedule": "warmup", "warmup": 3, "weight_decay": 0.25},
        **{"weight_decay_on": "hidden", "decay_from": 2, "decay_until": 7, "norm_run": "0123456789ab", "tf32": True},
        **{"checkpoint_every": 4, "steps": 9},
    }
    plain = {"experiment": "modular_addition", "net": {"type": "Mlp"}, "data": {"type": "ModularAddition"}}
    assert json.loads(to_json(run)) == {"type": "RunSpec", **plain, **settings}
    assert smallest(**settings) == with_settings(smallest(), **settings) == run
    assert {name: own_settings(run)[name] for name in settings} == settings


def test_no_two_parts_share_the_name_of_a_setting() -> None:
    parts = (Optimizer, Schedule, Decay, Norms, Numerics, Record)
    assert {field.type for field in dataclasses.fields(RunSpec)} >= set(parts)
    fields = sum(len(dataclasses.fields(kind)) for kind in (RunSpec, *parts))
    assert len(own_settings(PAPER)) == fields - len(parts)
    assert set(ORDER) == own_settings(PAPER).keys() - {"net", "data", "start"}


def test_a_part_of_another_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^optimizer='sgd' is not allowed: expected an instance of Optimizer"):
        dataclasses.replace(PAPER, optimizer="sgd")  # type: ignore[arg-type]


def test_a_default_written_out_keeps_the_run_id() -> None:
    written = dataclasses.replace(
        PAPER,
        net=Transformer(width=128, heads=4),
        data=ModularAddition(prime=113),
        optimizer=Optimizer(learning_rate=0.001, beta2=0.98),
        numerics=Numerics(),
        seed=0,
    )
    assert written.run_id == PAPER.run_id


def test_a_new_field_at_its_default_keeps_the_run_id() -> None:
    newer = dataclasses.make_dataclass(
        "RunSpec",
        [("clip", float, dataclasses.field(default=0.0))],
        bases=(RunSpec,),
        frozen=True,
        slots=True,
        kw_only=True,
    )
    fields = {field.name: getattr(PAPER, field.name) for field in dataclasses.fields(PAPER)}
    assert newer(**fields).run_id == PAPER.run_id
    assert newer(**fields, clip=1.0).run_id != PAPER.run_id


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"weight_decay": 0.1},
        {"steps": 40_001},
        {"optimizer": "sgd"},
        {"batch_size": 512},
        {"eval_batch_size": 512},
        {"eval_examples": 1000},
        {"accumulate": 2},
        {"clip_norm": 1.0},
        {"precision": "bfloat16"},
        {"schedule": "milestones", "milestones": (3,)},
        {"period": 5},
        {"sam_radius": 0.1},
        {"weight_decay_on": "matrices"},
        {"decay_from": 10},
        {"decay_until": 10},
        {"norm_control": "initial"},
        {"tf32": True},
        {"compile": True},
        {"deterministic": False},
        {"net": Transformer(layernorm=True)},
        {"net": Mlp()},
        {"data": ModularAddition(train_fraction=0.9)},
        {"data": ModularAddition(mirrored_together=True)},
    ],
    ids=str,
)
def test_another_value_changes_the_run_id(changed: dict[str, object]) -> None:
    assert from_settings(**{**own_settings(PAPER), **changed}).run_id != PAPER.run_id


@pytest.mark.parametrize(
    ("field", "value", "same"),
    [
        ("weight_decay", 1, 1.0),
        ("weight_decay", np.float64(0.25), 0.25),
        ("weight_decay", np.float32(0.25), 0.25),
        ("weight_decay", -0.0, 0.0),
        ("learning_rate", 1, 1.0),
        ("seed", np.int64(3), 3),
        ("seed", 3.0, 3),
        ("steps", 1e3, 1000),
        ("batch_size", np.int32(7), 7),
        ("clip_norm", 1, 1.0),
        ("clip_norm", np.float32(0.5), 0.5),
        ("accumulate", 4.0, 4),
        ("decay_until", np.int64(9), 9),
        ("milestones", [82, 123.0, np.int64(160)], (82, 123, 160)),
        ("milestones", [], ()),
    ],
    ids=str,
)
def test_equal_numbers_of_another_type_give_the_same_run(field: str, value: object, same: object) -> None:
    run = smallest(**{"steps": 9, field: value})
    assert run.run_id == smallest(**{"steps": 9, field: same}).run_id
    assert type(own_settings(run)[field]) is type(same)


def test_json_comes_back_as_the_same_spec() -> None:
    run = smallest(net=Transformer(depth=2, layernorm=True), batch_size=32, schedule="cosine", warmup=3, seed=7)
    assert read_spec(to_json(run), "modular_addition") == run


def test_only_settings_of_a_run_are_sent_to_workers_and_changed_ones_are_worked_out_again() -> None:
    spec = get_experiment("modular_addition").preset("smoke").spec
    sent = pickle.dumps(spec)
    assert (spec.run_id, hyperparameters(spec)["seed"]) == (hashlib.sha256(to_json(spec).encode()).hexdigest()[:12], 0)
    assert pickle.dumps(spec) == sent
    hyperparameters(spec)["seed"] = 7
    assert hyperparameters(spec)["seed"] == 0, "what was given out is a copy"
    other = dataclasses.replace(spec, seed=1)
    assert (other.run_id != spec.run_id, hyperparameters(other)["seed"]) == (True, 1)
    assert pickle.loads(sent) == spec


def test_a_tuple_comes_back_as_a_tuple() -> None:
    run = smallest(schedule="milestones", milestones=(82, 123), clip_norm=0.5, steps=9, decay_until=7)
    assert '"milestones":[82,123]' in to_json(run)
    again = read_spec(to_json(run), "modular_addition")
    assert again == run
    assert again.schedule.milestones == (82, 123)
    assert again.run_id == run.run_id


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_decay": -0.1}, r"weight_decay=-0\.1 is not allowed: expected a finite number of 0 or more"),
        ({"weight_decay": float("nan")}, r"weight_decay=nan is not allowed: expected a finite number of 0 or more"),
        ({"weight_decay": float("inf")}, r"weight_decay=inf is not allowed: expected a finite number of 0 or more"),
        ({"learning_rate": 0.0}, r"learning_rate=0\.0 is not allowed: expected a finite number above 0"),
        ({"learning_rate": "1e-3"}, r"learning_rate='1e-3' is not allowed: expected a number"),
        ({"epsilon": 0.0}, r"epsilon=0\.0 is not allowed: expected a finite number above 0"),
        ({"beta1": 1.0}, r"beta1=1\.0 is not allowed: expected a number in \[0, 1\)"),
        ({"beta2": float("nan")}, r"beta2=nan is not allowed: expected a number in \[0, 1\)"),
        ({"momentum": -1.0}, r"momentum=-1\.0 is not allowed"),
        ({"steps": 0}, r"steps=0 is not allowed: expected an integer of 1 or more"),
        ({"steps": 2.5}, r"steps=2\.5 is not allowed: expected an integer"),
        ({"seed": -1}, r"seed=-1 is not allowed: expected an integer from 0 to 2\*\*63 - 1$"),
        ({"seed": 2**63}, r"seed=9223372036854775808 is not allowed: expected an integer from 0 to 2\*\*63 - 1$"),
        ({"seed": True}, r"seed=True is not allowed: expected an integer$"),
        ({"learning_rate": True}, r"learning_rate=True is not allowed: expected a number$"),
        ({"momentum": 1.0}, r"momentum=1\.0 is not allowed: expected a number in \[0, 1\)"),
        ({"seed": float("inf")}, r"seed=inf is not allowed: expected an integer"),
        ({"batch_size": 0}, r"batch_size=0 is not allowed: expected None or 1 or more"),
        ({"checkpoint_every": 0}, r"checkpoint_every=0 is not allowed: expected an integer of 1 or more"),
        ({"eval_batch_size": 0}, r"eval_batch_size=0 is not allowed: expected an integer of 1 or more"),
        ({"optimizer": "adamv"}, r"unknown optimizer 'adamv': known are adamw, muon, sam, sgd; did you mean 'adamw'\?"),
        ({"optimizer": "lbfgs"}, r"unknown optimizer 'lbfgs': known are adamw, muon, sam, sgd$"),
        ({"clip_norm": 0.0}, r"clip_norm=0\.0 is not allowed: expected None or a finite number above 0"),
        ({"clip_norm": float("nan")}, r"clip_norm=nan is not allowed: expected None or a finite number above 0"),
        ({"clip_norm": "1"}, r"clip_norm='1' is not allowed: expected None or a finite number above 0"),
        ({"eval_examples": 0}, r"eval_examples=0 is not allowed: expected None or 1 or more"),
        ({"accumulate": 0}, r"accumulate=0 is not allowed: expected an integer of 1 or more"),
        ({"milestones": (2, 2)}, r"milestones=\(2, 2\) is not allowed: expected ascending epochs, 1 or later"),
        ({"milestones": (3, 2)}, r"milestones=\(3, 2\) is not allowed"),
        ({"milestones": (0, 2)}, r"milestones=\(0, 2\) is not allowed"),
        ({"milestones": (1.5,)}, r"milestones=\(1\.5,\) is not allowed"),
        ({"milestones": 3}, r"milestones=3 is not allowed"),
        ({"schedule": "milestones"}, r"milestones=\(\) is not allowed: expected one or more for schedule"),
        ({"schedule": "warmup-cosine"}, r"period=0 is not allowed: expected a number above warmup=0 for schedule"),
        (
            {"schedule": "warmup-cosine", "warmup": 5, "period": 5},
            r"period=5 is not allowed: expected a number above warmup=5",
        ),
        (
            {"steps": 9, "decay_from": 3, "decay_until": 3},
            r"decay_until=3 is not allowed: expected None, or a step after decay_from=3$",
        ),
        ({"decay_until": 0}, r"decay_until=0 is not allowed: expected None, or a step after decay_from=0$"),
        (
            {"steps": 9, "decay_until": 10},
            r"decay_until=10 is not allowed: expected None, or a step up to the last \(steps=9\)$",
        ),
        (
            {"steps": 9, "decay_from": 9},
            r"decay_from=9 is not allowed: expected 0, or a step before the last \(steps=9\)$",
        ),
        ({"decay_from": -1}, r"decay_from=-1 is not allowed"),
        ({"nesterov": True}, r"nesterov=True is not allowed: expected sgd or sam with a momentum above 0"),
        ({"nesterov": True, "optimizer": "sgd"}, r"nesterov=True is not allowed"),
        ({"sam_radius": 0.0}, r"sam_radius=0\.0 is not allowed: expected a finite number above 0"),
        ({"tf32": 1}, r"tf32=1 is not allowed: expected True or False"),
        ({"precision": "float8"}, r"unknown precision 'float8': known are bfloat16, float16, float32; did you mean"),
        (
            {"precision": "float16", "optimizer": "sam"},
            r"precision='float16' is not allowed: expected float32",
        ),
        ({"weight_decay_on": "hiden"}, r"unknown weight_decay_on 'hiden': known are .* did you mean 'hidden'\?"),
        ({"norm_control": "x"}, r"unknown norm_control 'x': known are initial, none"),
        ({"schedule": "cosin"}, r"unknown schedule 'cosin': .* did you mean 'cosine'\?"),
    ],
    ids=str,
)
def test_a_setting_that_is_not_allowed_is_refused_by_name(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        smallest(**settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"Mlp"}', "expected the JSON of a RunSpec, got that of Mlp"),
        (
            '{"type":"Vgg"}',
            "unknown type in a run spec 'Vgg': known are Mlp, ModularAddition, Perturbation, RunSpec, StartFrom, ",
        ),
        (json.dumps({**json.loads(CANONICAL), "weight_decay": -1}), "weight_decay=-1"),
    ],
)
def test_json_that_is_no_run_spec_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_spec(text, "modular_addition")


def test_a_kind_that_the_experiment_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown type in a run spec 'Transformer'"):
        from_json(CANONICAL, {"ModularAddition": ModularAddition})


def test_hyperparameters_are_flat_and_typed_as_declared() -> None:
    flat = hyperparameters(smallest(weight_decay=1, batch_size=None))
    assert flat["architecture"] == "Mlp"
    assert (flat["prime"], flat["hidden_layers"], flat["batch_size"]) == (113, 4, 0)
    assert type(flat["weight_decay"]) is float
    assert {"net", "data"}.isdisjoint(flat)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Staged:
    widths: tuple[int, ...] = (1,)


def test_a_tuple_in_a_part_comes_back_as_a_tuple() -> None:
    run = smallest(net=Staged(widths=(8, 16)))
    again = from_json(to_json(run), {"Staged": Staged, "ModularAddition": ModularAddition})
    assert again == run
    assert again.net.widths == (8, 16)
    assert hyperparameters(run)["widths"] == "8,16"


def test_a_setting_has_one_type_in_every_run() -> None:
    some = hyperparameters(smallest(steps=9, clip_norm=1, decay_until=5, milestones=(82, 123), eval_examples=7))
    none = hyperparameters(smallest())
    assert (some["clip_norm"], some["decay_until"], some["milestones"]) == (1.0, 5, "82,123")
    assert (none["clip_norm"], none["decay_until"], none["milestones"], none["eval_examples"]) == (0.0, 0, "", 0)
    assert {name: type(value) for name, value in some.items()} == {name: type(value) for name, value in none.items()}
