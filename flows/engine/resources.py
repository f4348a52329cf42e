"""What a unit of work asks for, and how many units the machines of a Ray cluster have room for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import ray
from annotated_types import Ge

from specdyn.flows.engine.unit_log import pass_on
from specdyn.flows.shown import shown
from specdyn.models.spec.checks import require

LEAST_GPUS = 0.0001
"""The smallest share of a GPU that Ray can give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What each unit of work (one training, one block of checkpoints) is given."""

    cpus: Annotated[int, Ge(1), shown("CPUs", "CPU cores (and threads) for each task.")] = 1
    gpus: Annotated[
        Annotated[float, Ge(0)] | None,
        shown("GPUs", "GPUs for each task; a fraction shares one. Empty takes one if the cluster has GPUs."),
    ] = None
    cpu_if_no_gpu: Annotated[
        bool, shown("CPU if no GPU", "Run on the CPU if the requested GPUs are not available, instead of refusing.")
    ] = False

    def __post_init__(self) -> None:
        require(self.cpus >= 1, "cpus", self.cpus, "an integer of 1 or more")
        # Ray counts GPUs in ten-thousandths, and splits none of several.
        share = self.gpus is None or self.gpus == 0 or LEAST_GPUS <= self.gpus <= 1
        whole = self.gpus is not None and 1 < self.gpus < math.inf and self.gpus % 1 == 0
        allowed = f"None, 0, a share from {LEAST_GPUS} to 1, or a whole number"
        require(share or whole, "gpus", self.gpus, allowed)


class NotEnoughResources(ValueError):
    """The cluster can never meet a request: says what was asked and what there is."""


@dataclass(frozen=True, slots=True)
class Node:
    """What a machine of the cluster has."""

    cpus: int
    gpus: float


def nodes_now() -> list[Node]:
    """The machines that the Ray cluster has now."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(int(has.get("CPU", 0)), has.get("GPU", 0.0)) for has in alive]


def units_that_fit(nodes: Sequence[Node], cpus: int, gpus: float) -> int:
    """Units that fit the machines at the same time."""
    return sum(min(node.cpus // cpus, int(node.gpus / gpus)) if gpus else node.cpus // cpus for node in nodes)


def nodes_after(resources: Resources, patience: float) -> list[Node]:
    """The machines, once one has room for a unit, which a cluster that scales starts, or after that many seconds."""
    cpus, gpus = resources.cpus, resources.gpus or 0.0
    if patience and not units_that_fit(nodes_now(), cpus, gpus):
        pass_on([f"no machine of the Ray cluster has cpus={cpus}, gpus={gpus:g}: {patience:g} s for one to be started"])
        room = ray.remote(_nothing).options(name="room for a unit", num_cpus=cpus, num_gpus=gpus).remote()
        if not ray.wait([room], timeout=patience)[0]:
            ray.cancel(room, force=True)
    return nodes_now()


def _nothing() -> None:
    """What is asked for by this makes a cluster grow."""


def gpus_of_a_unit(resources: Resources, nodes: Sequence[Node]) -> float:
    """GPUs that each unit asks Ray for; NotEnoughResources where they can never be had."""
    available = max((node.gpus for node in nodes), default=0.0)
    if resources.gpus is None:
        return 1.0 if available >= 1 else 0.0
    if resources.gpus <= available:
        return resources.gpus
    if resources.cpu_if_no_gpu:
        return 0.0
    raise NotEnoughResources(
        f"gpus={resources.gpus:g} requested per task, but no node of the Ray cluster has more than {available:g}: "
        "ask for fewer, or allow the CPU with --cpu-if-no-gpu (`cpu_if_no_gpu`)"
    )
