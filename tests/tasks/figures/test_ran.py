"""What a page says of settings: what the preset has not, in what runs differ, then the rest by what it is of."""

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import as_text, hyperparameters
from specdyn.tasks.figures.live.ran import OF_PARTS, OTHER, Ran, what_ran

NAME = "modular_addition"
SPEC = get_experiment(NAME).presets["smoke"].spec


def ran(preset: str = "smoke", **changed: list[str]) -> Ran:
    """Two runs of a preset, some settings of which are others."""
    same = {name: [as_text(value)] * 2 for name, value in hyperparameters(SPEC).items()}
    return what_ran({**same, **changed}, NAME, preset)


def test_a_preset_as_it_is_has_nothing_that_differs() -> None:
    found = ran()
    assert (found.preset, found.changed, found.varied) == ("smoke", [], [])
    assert list(found.groups)[:3] == ["Network", "Data", "Optimizer"]
    assert set(found.groups) <= {*OF_PARTS.values(), OTHER}
    shown = [line.name for lines in found.groups.values() for line in lines]
    assert sorted(shown) == sorted(name.replace("_", " ") for name in hyperparameters(SPEC))
    (heads,) = [line for line in found.groups["Network"] if line.name == "heads"]
    assert (heads.value, heads.meaning) == (str(SPEC.net.heads), "Attention heads of each block")  # type: ignore[attr-defined]


def test_values_that_the_grid_of_the_preset_has_are_no_difference() -> None:
    decays = [as_text(value) for value in get_experiment(NAME).presets["smoke"].weight_decays]
    found = ran(weight_decay=decays)
    assert [(line.name, line.value) for line in found.varied] == [("weight decay", ", ".join(decays))]
    found = ran(weight_decay=["0", "7"], learning_rate=["0.5", "0.5"])
    learning_rate = as_text(hyperparameters(SPEC)["learning_rate"])
    assert [(line.name, line.value, line.preset) for line in found.changed] == [
        ("learning rate", "0.5", learning_rate),
        ("weight decay", "0, 7", ", ".join(decays)),
    ]


def test_what_is_not_known_is_shown_all_the_same() -> None:
    found = what_ran({"series": ["a", "b"], "family": ["llama", "llama"]}, "", "")
    assert [(line.name, line.value) for line in found.varied] == [("series", "a, b")]
    assert {title: [line.value for line in lines] for title, lines in found.groups.items()} == {OTHER: ["llama"]}
    assert ran(preset="gone").preset == ""
