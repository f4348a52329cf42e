"""Turns a dataclass of parameters into the form of a flow."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import Field

from specdyn.flows.outcome import Outcome
from specdyn.flows.parameters import AnalyseParameters, ConnectParameters, SweepParameters, TicketParameters
from specdyn.flows.shown import Shown

P = TypeVar("P", SweepParameters, ConnectParameters, TicketParameters, AnalyseParameters)


def takes(kind: type[P]) -> Callable[[Callable[[P], Outcome]], Callable[..., Outcome]]:
    """Wrap a function of the dataclass into one of its fields, as Prefect builds a form from the signature."""

    hints = typing.get_type_hints(kind, include_extras=True)
    defaults = {field.name: _default(field) for field in dataclasses.fields(kind)}

    def decorate(body: Callable[[P], Outcome]) -> Callable[..., Outcome]:
        signature = inspect.Signature(
            [
                inspect.Parameter(
                    name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=_in_a_form(hints[name])
                )
                for name, default in defaults.items()
            ],
            return_annotation=Outcome,
        )

        @functools.wraps(body)
        def call(*args: Any, **given: Any) -> Outcome:
            return body(kind(**signature.bind(*args, **given).arguments))

        call.__signature__ = signature  # type: ignore[attr-defined]
        return call

    return decorate


def _in_a_form(hint: Any) -> Any:
    """The type with title and text as a pydantic field, which Prefect does not overwrite."""
    shown = next(one for one in hint.__metadata__ if isinstance(one, Shown))
    return Annotated[hint, Field(json_schema_extra=shown.schema())]


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
