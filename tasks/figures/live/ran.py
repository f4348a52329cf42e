"""The settings shown on a page: differences from the preset and among rows, then the rest by part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from specdyn.models.experiments.base import Experiment, experiment_names, get_experiment
from specdyn.models.spec.run_spec import RunSpec, as_text, hyperparameters
from specdyn.models.spec.settings import ZERO_FOR_NONE, described_settings, settings_of, with_settings
from specdyn.tasks.figures.levels import axis_title

OF_PARTS = {
    "net": "Network",
    "data": "Data",
    "optimizer": "Optimizer",
    "decay": "Weight decay",
    "norms": "Norms",
    "schedule": "Schedule",
    "": "Training",
    "numerics": "Numerics",
    "record": "Checkpoints and metrics",
}
"""Titles of the parts of a spec, in display order."""
OTHER = "Other"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingLine:
    """One setting of all rows."""

    name: str
    value: str
    """Its values, if rows differ."""
    preset: str = ""
    """The preset's value; empty if unknown or not shown."""
    meaning: str = ""
    """Meaning, with the unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """The settings of a study, grouped by interest."""

    preset: str = ""
    """The preset for comparison; empty if there is none."""
    changed: Sequence[SettingLine] = ()
    """Settings with a value that neither the preset nor its grid has."""
    varied: Sequence[SettingLine] = ()
    """The others in which rows differ."""
    groups: Mapping[str, Sequence[SettingLine]] = field(default_factory=dict)
    """The rest, by part."""


def what_ran(
    settings: Mapping[str, Sequence[str]], experiment: str, preset: str, said: Mapping[str, str] | None = None
) -> Ran:
    """Settings by name, with the text of each row, beside a preset of an experiment, where both are known.

    `said` has the meaning of what is no setting of the experiment.
    """
    known = get_experiment(experiment) if experiment in experiment_names() else None
    grid = _grid_of(known, preset) if known else {}
    spec = known.preset(preset if grid else known.usual).spec if known else None
    parts = {name: setting.part for name, setting in settings_of(spec).items()} if spec else {}
    meanings = {**(said or {}), **(_meanings(spec) if spec else {})}
    changed, varied = [], []
    groups: dict[str, list[SettingLine]] = {title: [] for title in (*OF_PARTS.values(), OTHER)}
    for name, texts in settings.items():
        values = list(dict.fromkeys(texts))
        line = SettingLine(name=axis_title(name), value=", ".join(values) or "none", meaning=meanings.get(name, ""))
        if name in grid and not set(values) <= set(grid[name]):
            usual = ", ".join(grid[name]) or "none"
            changed.append(SettingLine(name=line.name, value=line.value, meaning=line.meaning, preset=usual))
        elif len(values) > 1:
            varied.append(line)
        else:
            groups[OF_PARTS[parts[name]] if name in parts else OTHER].append(line)
    shown = {title: sorted(lines, key=lambda line: line.name) for title, lines in groups.items() if lines}
    return Ran(preset=preset if grid else "", changed=changed, varied=varied, groups=shown)


def _grid_of(known: Experiment, preset: str) -> dict[str, list[str]]:
    """The values of each setting in a preset and its grid, formatted as in a cube; empty for an unknown preset."""
    if preset not in known.presets:
        return {}
    of = known.presets[preset]
    axes = {"weight_decay": of.weight_decays, "seed": of.seeds, **of.axes}
    found = {name: [as_text(value)] for name, value in hyperparameters(of.spec).items()}
    for name, values in axes.items():
        own = [as_text(hyperparameters(with_settings(of.spec, **{name: value}))[name]) for value in values]
        found[name] = list(dict.fromkeys(own))
    return found


def _meanings(spec: RunSpec) -> dict[str, str]:
    """The meaning of each setting, with its unit."""
    said = {}
    for name, of in described_settings(spec).items():
        unit = of.get("units", "1")
        text = of.get("comment", "").replace("`", "")
        if text.endswith(ZERO_FOR_NONE):  # the values shown are those of the results, where None is 0
            text = text.removesuffix(ZERO_FOR_NONE).replace("None is", "0 is")
        said[name] = f"{text} ({unit})" if text and unit != "1" else text
    return said
