"""`specdyn settings`: lists the settings of an experiment, their part and their meaning."""

from typing import Any

from specdyn.flows.cli.options import out
from specdyn.flows.cli.terminal import table
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec, as_text
from specdyn.models.spec.settings import KINDS, meanings, settings_of, unit_of


def show_settings(experiment: str, preset: str) -> None:
    """Print the settings of a preset: name, part, value, unit, type and meaning."""
    known = get_experiment(experiment)
    name = preset or known.usual
    spec = known.preset(name).spec
    rows = []
    for key, setting in settings_of(spec).items():
        owner = _owner(spec, setting.part)
        value = as_text(setting.of(spec)) or "none"
        kind, meaning = setting.field.type, meanings(owner).get(setting.field.name, "").replace("None is", "none is")
        unit = unit_of(key, kind)
        rows.append((key, _part(owner), value, "" if unit == "1" else unit, _kind(kind), meaning))
    rows.sort(key=lambda row: row[1])
    table(f"Settings of {experiment}, preset {name}", ("setting", "of", "value", "unit", "type", "meaning"), rows)
    out.print("--set NAME=VALUE fixes one, -a NAME=VALUE,VALUE makes it an axis of the grid")


def _owner(spec: RunSpec, part: str) -> type:
    return type(getattr(spec, part)) if part else type(spec)


def _part(owner: type) -> str:
    return "run" if owner is RunSpec else owner.__name__


def _kind(kind: Any) -> str:
    text = KINDS.get(kind) or str(kind).replace("None", "none").replace("|", "or")
    text = text.replace("int ", "integer ").replace("float ", "number ")
    return text.removeprefix("a ").removeprefix("an ")
