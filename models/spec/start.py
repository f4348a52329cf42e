"""Where a run starts: at another run's checkpoint, unchanged, perturbed or masked (METHOD 2.1, 2.2, 2.3)."""

from dataclasses import dataclass

from specdyn.models.spec.checks import require, require_declared_types, require_known, require_seed

PERTURBATIONS = ("bottom", "random", "top")
MASKS = ("iterative", "magnitude", "random", "reinit", "shuffled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """Noise added once to every layer but the last, preserving the layers' norms (METHOD 2.2)."""

    size: float
    """Norm of the noise as a share of the layer's."""
    direction: str = "random"
    """`random`, or within the span of the ten `top` or `bottom` singular directions."""
    noise_seed: int = 0

    def __post_init__(self) -> None:
        require_declared_types(self)
        require_known("direction", self.direction, PERTURBATIONS)
        require(0 <= self.size < float("inf"), "size", self.size, "a finite number of 0 or more")
        require_seed("noise_seed", self.noise_seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A mask of every layer but the last, made from the trunk's last checkpoint, kept in every update (METHOD 2.3)."""

    density: float
    """Share of weights kept, over all masked layers together."""
    mask: str = "magnitude"
    """`random`: as many in each layer; `reinit`: the magnitude mask on new weights; `shuffled`: the magnitude mask and
    its weights, permuted together within each layer; `iterative`: the largest last weights of the `previous` ticket
    among those that it kept."""
    mask_seed: int = 0
    previous: str = ""
    """Run id of the previous round's ticket; empty in the first round, whose mask comes from the trunk."""

    def __post_init__(self) -> None:
        require_declared_types(self)
        require_known("mask", self.mask, MASKS)
        require(0 < self.density <= 1, "density", self.density, "a number above 0, at most 1")
        require_seed("mask_seed", self.mask_seed)
        require(
            not self.previous or self.mask == "iterative", "previous", self.previous, "none but for iterative masks"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFrom:
    """A checkpoint of a trunk from which the run continues with its own data order."""

    run_id: str
    """The trunk: a run of the same network on the same data."""
    step: int
    """A step at which the trunk kept its training state."""
    order: int
    """Seed of the data order and of noise in the loss from there on; the trunk's own seed repeats the trunk."""
    perturbation: Perturbation | None = None
    ticket: Ticket | None = None

    def __post_init__(self) -> None:
        require(isinstance(self.step, int) and self.step >= 0, "step", self.step, "an integer of 0 or more")
        require_seed("order", self.order)
        require(self.perturbation is None or self.ticket is None, "ticket", self.ticket, "none beside a perturbation")
