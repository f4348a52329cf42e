"""Grids over any setting: their specs, names, labels and refusals."""

import dataclasses
from typing import Any

import pytest

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import read_axes, read_settings, settings_of, with_settings
from specdyn.storage.places import Store
from specdyn.storage.studies import read_study
from specdyn.tasks.plan.sweeps import label, make_sweep, sweep_of
from specdyn.tasks.spectra.analysis import default_analyses

SMOKE = get_experiment("modular_addition").preset("smoke").spec


def grid(**arguments: Any) -> tuple[RunSpec, ...]:
    return make_sweep("modular_addition", "smoke", **arguments).specs


def test_without_axes_the_grid_is_weight_decays_and_seeds() -> None:
    made = make_sweep("modular_addition", "smoke", seeds=[1, 2])
    expected = [with_settings(SMOKE, weight_decay=decay, seed=seed) for decay in (0.0, 1.0) for seed in (1, 2)]
    assert list(made.specs) == expected
    assert made.name == "modular_addition-smoke"
    assert list(made.analyses) == default_analyses()
    assert made.varied == ()


def test_axes_come_before_weight_decays_and_seeds() -> None:
    made = make_sweep(
        "modular_addition", "smoke", [0.5], [3, 4], axes={"learning_rate": [1e-3, 1e-2], "width": [16, 32]}
    )
    expected = [
        with_settings(
            dataclasses.replace(SMOKE, net=dataclasses.replace(SMOKE.net, width=width)),
            learning_rate=rate,
            weight_decay=0.5,
            seed=seed,
        )
        for rate in (1e-3, 1e-2)
        for width in (16, 32)
        for seed in (3, 4)
    ]
    assert list(made.specs) == expected
    assert made.name == "modular_addition-smoke-learning_rate-width"
    assert set(made.varied) == {"learning_rate", "width"}


def test_a_setting_may_be_of_the_data_and_fixed_ones_hold_in_every_run() -> None:
    specs = grid(axes={"prime": [5, 7], "optimizer": ["sgd", "adamw"]}, settings={"momentum": 0.9, "heads": 2})
    optimizers = [(spec.data.prime, spec.optimizer.name) for spec in specs[::2]]
    assert optimizers == [(5, "sgd"), (5, "adamw"), (7, "sgd"), (7, "adamw")]
    assert {(s.optimizer.momentum, s.net.heads) for s in specs} == {(0.9, 2)}
    assert {s.data.train_fraction for s in specs} == {SMOKE.data.train_fraction}


def test_weight_decay_and_seed_may_be_axes_under_their_own_names() -> None:
    specs = grid(axes={"weight_decay": [0.25]}, settings={"seed": 9})
    assert [(s.decay.weight_decay, s.seed) for s in specs] == [(0.25, 9)]


def test_a_tuple_may_be_an_axis() -> None:
    specs = grid(axes={"milestones": [[1, 2], (3,)]}, settings={"schedule": "milestones"}, weight_decays=[0.0])
    assert [s.schedule.milestones for s in specs] == [(1, 2), (3,)]


def test_labels_name_what_varies() -> None:
    made = make_sweep("modular_addition", "smoke", [0.5], axes={"learning_rate": [1e-3, 2e-3], "optimizer": ["sgd"]})
    spec = made.specs[0]
    assert label(spec) == f"wd=0.5 seed=0 ({spec.run_id[:6]})"
    assert label(spec, made.varied) == f"wd=0.5 seed=0 learning_rate=0.001 ({spec.run_id[:6]})"
    assert label(spec, ["optimizer", "width"]) == f"wd=0.5 seed=0 optimizer=sgd width=32 ({spec.run_id[:6]})"


def test_a_recorded_sweep_comes_back(local_store: Store) -> None:
    made = make_sweep("modular_addition", "smoke", sweep="wide", axes={"width": [16, 32]})
    assert not made.recorded(local_store)
    made.record(local_store)
    record = read_study(local_store, "wide", "sweep")
    assert record and sweep_of(record) == made and made.recorded(local_store)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"axes": {"widht": [1]}},
            "unknown setting of modular_addition 'widht': did you mean 'width'.* lists all",
        ),
        ({"axes": {"experiment": ["x"]}}, "unknown setting of modular_addition 'experiment'"),
        ({"axes": {"net": [1]}}, "unknown setting of modular_addition 'net'"),
        ({"axes": {"width": []}}, r"width=\[\] is not allowed: expected at least one value"),
        ({"axes": {"width": [8, 8.0]}}, r"width=\[8, 8\.0\] is not allowed: expected each value once, not"),
        ({"axes": {"milestones": [[1], (1,)]}}, "milestones=.* is not allowed: expected each value once, not"),
        ({"axes": {"optimizer": "sgd"}}, "optimizer='sgd' is not allowed: expected a list of values"),
        ({"axes": {"learning_rate": ["1e-3"]}}, "learning_rate='1e-3' is not allowed: expected a number"),
        ({"axes": {"width": [8, 9]}}, "heads=4 is not allowed: expected a divisor of width=9"),
        ({"axes": {"layernorm": [1]}}, "layernorm=1 is not allowed: expected True or False"),
        ({"axes": {"prime": [5, 9]}}, "prime=9 is not allowed: expected a prime number"),
        ({"axes": {"optimizer": ["adamw", 3]}}, "optimizer=3 is not allowed: expected a word"),
        ({"axes": {"seed": [1]}, "seeds": [2]}, r"seeds=\[2\] is not allowed: expected nothing beside seed=\[1\]"),
        ({"settings": {"weight_decay": 1.0}, "weight_decays": [2.0]}, "expected nothing beside weight_decay=1.0"),
        ({"axes": {"width": [16]}, "settings": {"width": 32}}, "width=32 is not allowed: expected one value for every"),
    ],
    ids=str,
)
def test_a_grid_that_cannot_be_is_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message if not message.startswith("expected") else message):
        grid(**arguments)


def test_words_become_axes_of_the_declared_types() -> None:
    found = read_axes(
        SMOKE,
        [
            "learning_rate=1e-3,1",
            "width=16,1e2",
            "layernorm=true,False",
            "optimizer=sgd,adamw",
            "batch_size=none,8",
            "clip_norm=None,2",
            "milestones=82/123,100,none",
            "train_fraction=0.5",
        ],
    )
    assert found == {
        "learning_rate": [1e-3, 1.0],
        "width": [16, 100],
        "layernorm": [True, False],
        "optimizer": ["sgd", "adamw"],
        "batch_size": [None, 8],
        "clip_norm": [None, 2.0],
        "milestones": [(82, 123), (100,), ()],
        "train_fraction": [0.5],
    }
    assert [type(value) for value in found["width"]] == [int, int]
    assert [type(value) for value in found["learning_rate"]] == [float, float]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("width", "setting='width' is not allowed: expected NAME=VALUE"),
        ("widht=3", "unknown setting of modular_addition 'widht'"),
        ("width=x", "width='x' is not allowed: expected an integer"),
        ("width=1.5", "width='1.5' is not allowed: expected an integer"),
        ("width=nan", "width='nan' is not allowed: expected an integer"),
        ("learning_rate=1,", "learning_rate='1,' is not allowed: expected one or more values separated by commas"),
        ("layernorm=1", "layernorm='1' is not allowed: expected true or false"),
        ("milestones=1/x", "milestones='x' is not allowed: expected an integer"),
        ("batch_size=no", "batch_size='no' is not allowed: expected an integer"),
    ],
)
def test_words_that_are_no_axis_are_refused(word: str, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        read_axes(SMOKE, [word])


def test_an_axis_written_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="setting='width=8' is not allowed: expected width once"):
        read_axes(SMOKE, ["width=16", "width=8"])


def test_large_integers_are_read_exactly() -> None:
    assert read_axes(SMOKE, ["seed=9007199254740993"]) == {"seed": [9007199254740993]}


def test_every_setting_can_be_set_to_what_it_is() -> None:
    values = {name: place.of(SMOKE) for name, place in settings_of(SMOKE).items()}
    assert with_settings(SMOKE, **values) == SMOKE
    assert {"net", "data", "experiment"}.isdisjoint(values)
    assert {"prime", "width", "seed", "milestones"} <= set(values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Staged:
    widths: tuple[int, ...] = (1,)


def test_a_list_becomes_a_tuple_in_a_part_too() -> None:
    spec = dataclasses.replace(SMOKE, net=Staged())
    assert with_settings(spec, widths=[8, 16]).net == Staged(widths=(8, 16))
    assert read_axes(spec, ["widths=8/16,4"]) == {"widths": [(8, 16), (4,)]}


def test_a_presets_own_axes_are_part_of_its_grid_unless_they_are_chosen() -> None:
    def rates(**arguments: Any) -> list[float]:
        made = make_sweep("image_classification", "mlp-true", seeds=[0], **arguments)
        assert made.name.startswith("image_classification-mlp-true")
        return [spec.optimizer.learning_rate for spec in made.specs]

    assert rates() == [0.1, 0.01, 1e-3, 1e-4]
    assert rates(settings={"learning_rate": 0.5}) == [0.5]
    assert rates(axes={"learning_rate": [1.0, 2.0]}) == [1.0, 2.0]
    assert make_sweep("image_classification", "mlp-true").name == "image_classification-mlp-true"


@pytest.mark.parametrize(
    ("word", "message"),
    [("seed=1,2", "expected one value"), ("seed", "expected NAME=VALUE"), ("sed=1", "did you")],
)
def test_a_setting_that_cannot_be_read_is_refused(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_settings(get_experiment("modular_addition").preset("smoke").spec, [word])


def test_runs_of_two_architectures_in_one_sweep_have_labels() -> None:
    made = make_sweep("modular_addition", "smoke", seeds=[0])
    other = make_sweep("modular_addition", "mlp", [0.5], seeds=[0])
    both = dataclasses.replace(made, specs=(*made.specs[:1], *other.specs[:1]))
    assert {"architecture", "hidden_layers", "heads"} <= set(both.varied)
    first, second = (label(spec, both.varied) for spec in both.specs)
    assert "architecture=Transformer" in first and "hidden_layers" not in first
    assert "architecture=Mlp" in second and "heads" not in second
