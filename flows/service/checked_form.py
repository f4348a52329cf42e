"""Checks between fields of a form, such as which presets an experiment has, before a run is created."""

from typing import Any

from prefect import Flow
from prefect.utilities.callables import ParameterSchema, parameter_schema
from pydantic import ConfigDict

from specdyn.flows.engine.settings import allowed_pattern
from specdyn.flows.fields import USUAL
from specdyn.models.experiments.base import EXPERIMENTS, Experiment
from specdyn.models.plugins import kinds
from specdyn.models.spec.settings import settings_of


class CheckedSchema(ParameterSchema):
    """A flow's parameters with rules between them, which Prefect's server checks before it creates a run."""

    model_config = ConfigDict(extra="allow")


def checked_schema(flow: Flow[Any, Any]) -> CheckedSchema:
    """The schema of a flow's form.

    It rejects unknown parameters, presets and settings of another experiment, and stores that the service does not
    allow.
    """
    plain = parameter_schema(flow.fn)
    fields, rules = plain.properties, list[dict[str, Any]]()
    if "experiment" in fields:
        default = fields["experiment"]["default"]
        # A plug-in may be edited while the service runs, so each run checks its presets and settings.
        own = [one for one in kinds.usable(EXPERIMENTS).values() if not kinds.origin(EXPERIMENTS, one.name)]
        rules = [_rule(one, fields.keys(), one.name == default) for one in own]
    if pattern := allowed_pattern():
        fields["store"]["pattern"] = pattern
    more: dict[str, Any] = {"additionalProperties": False, **({"allOf": rules} if rules else {})}
    return CheckedSchema(**{**plain.model_dump(exclude_unset=True), **more})


def _rule(experiment: Experiment, fields: Any, default: bool) -> dict[str, Any]:
    """The rule for an experiment, if it is chosen or the default."""
    settings = {name for preset in experiment.presets.values() for name in settings_of(preset.spec)}
    named = {"propertyNames": {"enum": sorted(settings)}}
    then = {"preset": {"enum": [USUAL, *experiment.presets]}, "settings": named, "axes": named}
    chosen: dict[str, Any] = {"properties": {"experiment": {"const": experiment.name}}}
    if not default:
        chosen["required"] = ["experiment"]
    return {"if": chosen, "then": {"properties": {name: of for name, of in then.items() if name in fields}}}
