"""`specdyn settings`: what can be set of an experiment, where it belongs, and what it means."""

import ast
import dataclasses
import functools
import inspect
import textwrap
from typing import Any

from specdyn.flows.cli.options import out
from specdyn.flows.cli.terminal import table
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec, as_text
from specdyn.models.spec.settings import KINDS, settings_of


def show_settings(experiment: str, preset: str) -> None:
    """Print the settings of a preset: name, what it is of, value, type and meaning."""
    known = get_experiment(experiment)
    name = preset or known.usual
    spec = known.preset(name).spec
    rows = []
    for key, setting in settings_of(spec).items():
        owner = _owner(spec, setting.part)
        value = as_text(setting.of(spec)) or "none"
        rows.append((key, _part(owner), value, _kind(setting.field.type), meanings(owner).get(setting.field.name, "")))
    rows.sort(key=lambda row: row[1])
    table(f"Settings of {experiment}, preset {name}", ("setting", "of", "value", "type", "meaning"), rows)
    out.print("--set NAME=VALUE fixes one, -a NAME=VALUE,VALUE makes it an axis of the grid", highlight=False)


def _owner(spec: RunSpec, part: str) -> type:
    return type(getattr(spec, part)) if part else type(spec)


def _part(owner: type) -> str:
    return "run" if owner is RunSpec else owner.__name__


def _kind(kind: Any) -> str:
    text = KINDS.get(kind) or str(kind).replace("None", "none").replace("|", "or")
    return text.removeprefix("a ").removeprefix("an ")


@functools.cache
def meanings(owner: type) -> dict[str, str]:
    """The docstrings of a dataclass' fields, by field; only the source has them."""
    try:
        source = inspect.getsource(owner)
    except (OSError, TypeError):  # of a plug-in whose file is gone, or made by a program
        return {}
    tree = ast.parse(textwrap.dedent(source)).body[0]
    assert isinstance(tree, ast.ClassDef) and dataclasses.is_dataclass(owner)
    found: dict[str, str] = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        match before, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found
