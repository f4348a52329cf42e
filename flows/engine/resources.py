"""Resources that a unit of work requests, and how many units fit on the nodes of a Ray cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

from specdyn.flows.resources import Resources


class NotEnoughResources(ValueError):
    """The cluster can never meet a request; the message says what was requested and what is available."""


@dataclass(frozen=True, slots=True)
class Node:
    """The resources of a node."""

    cpus: int
    gpus: float


def units_that_fit(nodes: Sequence[Node], cpus: int, gpus: float) -> int:
    """Units that fit on the nodes at the same time."""
    return sum(min(node.cpus // cpus, int(node.gpus / gpus)) if gpus else node.cpus // cpus for node in nodes)


def gpus_of_a_unit(resources: Resources, nodes: Sequence[Node]) -> float:
    """GPUs that each unit requests from Ray; NotEnoughResources if they can never be provided."""
    available = max((node.gpus for node in nodes), default=0.0)
    if resources.gpus is None:
        return 1.0 if available >= 1 else 0.0
    if resources.gpus <= available:
        return resources.gpus
    if resources.cpu_if_no_gpu:
        return 0.0
    raise NotEnoughResources(
        f"gpus={resources.gpus:g} requested per task, but no node of the Ray cluster has more than {available:g}: "
        "request fewer, or allow the CPU with --cpu-if-no-gpu (`cpu_if_no_gpu`)"
    )
