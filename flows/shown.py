"""Describes a parameter of a flow for its form and its command."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Title and text of a parameter, for both the form and the command."""

    title: str
    about: str = ""
    default: str = ""
    """The meaning of an empty value."""
    examples: Sequence[Any] = ()
    choices: Callable[[], Sequence[str]] | None = None
    """The choices in a form; called when a form is built, since it may import every experiment."""
    flags: tuple[str, ...] = ()
    """Options of the command, if not `--name-of-the-field`."""
    see: str = ""
    """A command that lists the possible values."""
    in_command: bool = True

    @property
    def in_form(self) -> str:
        """The text in a form, with examples as JSON."""
        empty = f" Empty for {self.default}." if self.default else ""
        examples = ", ".join(f"`{json.dumps(example)}`" for example in self.examples)
        return f"{self.about}{empty}" + (f" E.g. {examples}." if examples else "")

    @property
    def in_help(self) -> str:
        """The text in the command's help, with examples as typed."""
        examples = ", ".join(f"`{_typed(example)}`" for example in self.examples)
        text = self.about.removesuffix(".")
        if examples:
            text += f". E.g. {examples}" if ". " in text else f", e.g. {examples}"
        text += f" (see `{self.see}`)" if self.see else ""
        return f"{text}." + (f" Default: {self.default}." if self.default else "")

    def schema(self) -> dict[str, Any]:
        """The parameter's part of the form's JSON schema."""
        text = {"title": self.title} | ({"description": self.in_form} if self.about else {})
        examples = {"examples": list(self.examples)} if self.examples else {}
        return {**text, **examples} | ({"enum": list(self.choices())} if self.choices else {})

    def __get_pydantic_json_schema__(self, core: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {**handler(core), **self.schema()}


def _typed(example: Any) -> str:
    match example:
        case list():
            return ",".join(map(_typed, example))
        case dict():
            return ", ".join(f"{name}={_typed(value)}" for name, value in example.items())
        case float():
            return f"{example:g}"
        case _:
            return str(example)
