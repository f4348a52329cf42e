"""Seeds, saves and restores the random generators of a device together; the only module that does."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor


class Generator(NamedTuple):
    """One of torch's default generators."""

    kind: str
    """`cpu`, `cuda`, `mps`, ...: the name under which its state is saved."""
    state: Callable[[], Tensor]
    set_state: Callable[[Tensor], object]


def seed_of(text: str) -> int:
    """A seed from 0 to 2^63 - 1, hashed from a text that identifies the draws."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generators(device: torch.device) -> tuple[Generator, ...]:
    """Every generator in use by a computation on the device: the CPU's always, and the device's own."""
    cpu = Generator("cpu", torch.get_rng_state, torch.set_rng_state)
    if device.type == "cpu":
        return (cpu,)
    module = torch.get_device_module(device)
    which = () if device.type == "mps" else (device,)  # MPS has a single device without an index
    own = Generator(
        device.type, lambda: module.get_rng_state(*which), lambda state: module.set_rng_state(state, *which)
    )
    return (cpu, own)


def states(device: torch.device) -> dict[str, Tensor]:
    """The state of each generator in use, by its kind, as bytes on the CPU."""
    return {generator.kind: generator.state() for generator in generators(device)}


def put_back(saved: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore the result of `states`; a generator without a saved state is left alone."""
    for generator in generators(device):
        if generator.kind in saved:
            generator.set_state(saved[generator.kind])


def seed(value: int, device: torch.device) -> None:
    """Seed the generators in use, and no others."""
    put_back({generator.kind: new_state(generator.kind, value) for generator in generators(device)}, device)


def new_state(kind: str, value: int) -> Tensor:
    """The state of a generator of this kind after seeding."""
    return torch.Generator(kind).manual_seed(value).get_state()


@contextmanager
def kept(device: torch.device, seeded: int | None = None) -> Iterator[None]:
    """Restore the generators' states afterwards; draws inside start from `seeded`, if given."""
    before = states(device)
    try:
        if seeded is not None:
            seed(seeded, device)
        yield
    finally:
        put_back(before, device)
