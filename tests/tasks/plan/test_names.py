"""Automatic names: one for each choice of settings, however it is written, that any store and URL can hold."""

import hashlib
import re
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.grids import cube_of
from specdyn.flows.parameters import TicketParameters
from specdyn.flows.studies import tickets_from
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import hyperparameters
from specdyn.models.spec.settings import read_settings
from specdyn.storage.foreign.found import Search
from specdyn.tasks.figures.summary import headings, sweep_table
from specdyn.tasks.foreign.network.layout import Look
from specdyn.tasks.plan.names import LONGEST, require_name, word
from specdyn.tasks.plan.series import cube_name
from specdyn.tasks.plan.series_cube import told_apart
from specdyn.tasks.plan.sweeps import make_sweep

SMOKE = get_experiment("modular_addition").preset("smoke").spec


def name(settings: dict[str, Any] | None = None, axes: dict[str, Any] | None = None, **given: Any) -> str:
    return make_sweep("modular_addition", "smoke", settings=settings, axes=axes, **given).name


def test_a_preset_as_it_is_keeps_its_name_whatever_its_weight_decays_and_seeds() -> None:
    assert name() == name(weight_decays=[0.25], seeds=[7, 8]) == "modular_addition-smoke"
    assert name({"learning_rate": SMOKE.optimizer.learning_rate, "width": SMOKE.net.width}) == "modular_addition-smoke"


@pytest.mark.parametrize(
    ("settings", "ending"),
    [
        ({"learning_rate": 0.003}, "learning_rate=0.003"),
        ({"learning_rate": 0.02}, "learning_rate=0.02"),
        ({"learning_rate": 0.0200000001}, "learning_rate=0.0200000001"),
        ({"learning_rate": 1}, "learning_rate=1"),
        ({"epsilon": 1e-12}, "epsilon=1e-12"),
        ({"steps": 30, "optimizer": "sgd"}, "optimizer=sgd-steps=30"),
        ({"optimizer": "sgd", "steps": 30.0}, "optimizer=sgd-steps=30"),
        ({"clip_norm": 1}, "clip_norm=1"),
        ({"batch_size": 8}, "batch_size=8"),
        ({"milestones": [1, 12], "schedule": "milestones"}, "milestones=1_12-schedule=milestones"),
        ({"weight_decay": 0.0}, "weight_decay=0"),
        ({"seed": 0}, "seed=0"),
        ({"deterministic": False}, "deterministic=false"),
    ],
    ids=str,
)
def test_a_name_carries_the_values_that_were_changed(settings: dict[str, Any], ending: str) -> None:
    assert name(settings) == f"modular_addition-smoke-{ending}"


def test_a_number_has_one_name_however_it_is_typed() -> None:
    typed = [read_settings(SMOKE, [f"learning_rate={text}"]) for text in ("1e-3", "0.001", "1.0E-03")]
    assert {name(settings) for settings in typed} == {"modular_addition-smoke-learning_rate=0.001"}


def test_an_axis_is_named_without_its_values_as_calls_extend_it() -> None:
    rates = [name(axes={"learning_rate": rates, "optimizer": ["sgd"]}) for rates in ([1e-3], [1e-2, 1e-1])]
    assert rates == ["modular_addition-smoke-learning_rate-optimizer"] * 2
    assert name(axes={"optimizer": ["sgd"], "learning_rate": [1e-3]}) == rates[0]
    assert name({"learning_rate": 1e-3, "steps": 30}) != name({"steps": 30}, axes={"learning_rate": [1e-3]})


def test_a_setting_that_a_presets_grid_varies_is_named_even_at_the_presets_own_value() -> None:
    spec = get_experiment("image_classification").preset("mlp-true").spec
    made = make_sweep("image_classification", "mlp-true", settings={"learning_rate": spec.optimizer.learning_rate})
    assert made.name == f"image_classification-mlp-true-learning_rate={spec.optimizer.learning_rate:g}"


def test_a_long_name_ends_in_a_hash_of_all_of_it() -> None:
    many = {"width": 64, "heads": 2, "optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay_on": "hidden"}
    long = "-".join(
        f"{key}={value}"
        for key, value in sorted({**many, "nesterov": "true"}.items())
        if value != getattr(SMOKE.net, key, None)
    )
    whole = f"modular_addition-smoke-{long}"
    found = name(many)
    digest = hashlib.sha256(repr(whole).encode()).hexdigest()[:8]
    assert len(whole) > LONGEST >= len(found)
    assert found.endswith(f"-{digest}") and whole.startswith(found.removesuffix(f"-{digest}"))
    assert len({name({**many, "momentum": m}) for m in (0.9, 0.91, 0.92)}) == 3


VALUES = st.one_of(
    st.floats(0, 1e300),
    st.integers(0, 10**30),
    st.booleans(),
    st.none(),
    st.text(max_size=100),
    st.lists(st.integers(0, 99), max_size=4).map(tuple),
    st.lists(st.floats(0, 1), max_size=3).map(tuple),
    st.lists(st.text(max_size=3), max_size=3).map(tuple),
)


@given(st.lists(VALUES, max_size=12))
def test_values_are_words_of_a_name_and_others_are_other_words(values: list[Any]) -> None:
    words = [word(value) for value in values]
    for kind in {type(value) for value in values}:
        of_kind = {repr(v): w for v, w in zip(values, words, strict=True) if type(v) is kind}
        assert len(set(of_kind.values())) == len(of_kind)
    for one in words:
        require_name("word", f"x-y={one}"[:LONGEST])
        assert "=" not in one and quote(one) == one


def test_graphs_are_named_like_sweeps(tmp_path: Any) -> None:
    def title(settings: dict[str, Any], given: str = "") -> str:
        asked = TicketParameters(
            preset="smoke", seeds=[0, 1], settings=settings, rewind=10, densities=[0.5], name=given, store=str(tmp_path)
        )
        return tickets_from(asked).name

    assert title({}) == "modular_addition-smoke"
    assert title({"steps": 40, "weight_decay": 1}) == "modular_addition-smoke-steps=40-weight_decay=1"
    assert title({"weight_decay": 1e0, "steps": 40}) == title({"steps": 40, "weight_decay": 1.0})
    assert title({"weight_decay": 2.0}) != title({"weight_decay": 1.0})
    assert title({"weight_decay": 2.0}, "mine") == "mine"


def test_series_are_named_by_all_places_and_options() -> None:
    one = cube_name(None, ["/a/run 1"])
    assert re.fullmatch(r"run-1-[0-9a-f]{8}", one)
    assert one == cube_name(None, ["/a/run 1/"])
    others = [
        cube_name(None, ["/b/run 1"]),
        cube_name(None, ["/a/run 1", "/a/run 2"]),
        cube_name(None, ["/a/run 1"], how=Look(heads=4)),
        cube_name(None, ["/a/run 1"], how=Look(heads=8)),
        cube_name(None, ["/a/run 1"], Search(pattern=r"run-(\d+)")),
        cube_name(None, ["/a/run 1"], how=Look(transposed="up")),
    ]
    assert len({one, *others}) == 7
    assert others[2].startswith("run-1-heads=4-")
    assert cube_name("mine", ["/a/run 1"]) == "mine"


def test_series_in_one_cube_are_named_by_how_their_places_differ() -> None:
    assert told_apart(["/a/one/run", "s3://b/two"]) == ["run", "two"]
    assert told_apart(["/a/one/run", "/a/two/run", "/c/x"]) == ["one/run", "two/run", "c/x"]
    assert told_apart(["/a/b/run", "/b/run"]) == ["a/b/run", "/b/run"]


@pytest.mark.parametrize("given", ["", "../up", "a/b", "a b", "-a", "a" * 82, "ä", "a?b", "a%b"])
def test_names_that_are_no_name_are_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"^sweep=.* is not allowed: expected letters, digits"):
        require_name("sweep", given)


def test_a_named_sweep_that_is_extended_with_another_setting_shows_it_as_a_column() -> None:
    calls = [
        make_sweep("modular_addition", "smoke", [0.0], [0, 1], "mine", settings={"learning_rate": rate})
        for rate in (1e-3, 1e-2)
    ]
    assert {call.name for call in calls} == {"mine"}
    runs = [hyperparameters(spec) for call in calls for spec in call.specs]
    rows = sweep_table(cube_of(runs, [0.5] * len(runs)))
    assert headings(rows)[:4] == ("weight decay", "learning rate", "seed", "run")
    assert [row.cells[:3] for row in rows] == [("0", rate, seed) for rate in ("0.001", "0.01") for seed in ("0", "1")]


def test_presets_of_two_networks_in_one_sweep_differ_by_all_their_settings() -> None:
    calls = [make_sweep("modular_addition", preset, [0.0], [0], "mine") for preset in ("smoke", "mlp")]
    rows = sweep_table(cube_of([hyperparameters(spec) for call in calls for spec in call.specs], [0.5, 0.5]))
    by_heading = [dict(zip(headings(rows), row.cells, strict=True)) for row in rows]
    found = {row["architecture"]: (row["heads"], row["hidden layers"]) for row in by_heading}
    assert found == {"Transformer": ("4", "not set"), "Mlp": ("not set", "4")}
