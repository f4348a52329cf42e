"""Reads tensors from files of torch.save lazily; calls nothing that a file names."""

import json
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.archives import read_archive
from specdyn.storage.foreign.states import State, States, chosen_state
from specdyn.storage.foreign.stored import Stored
from specdyn.storage.foreign.weights import Choice, ForeignWeights


class PickledWeights(ForeignWeights):
    """One file of torch.save, or several whose tensors belong together."""

    def __init__(self, urls: tuple[str, ...], choice: Choice = Choice()) -> None:  # noqa: B008 - frozen
        super().__init__()
        self._urls, self._choice = urls, choice

    @cached_property
    def _found(self) -> tuple[list[str], State, dict[str, str], list[States]]:
        """The name of the state dict in the first file, its tensors, the file of each, and all files' contents."""
        names: list[str] = []
        tensors: dict[str, Stored] = {}
        passed: dict[str, str] = {}
        of: dict[str, str] = {}
        every: list[States] = []
        for url in self._urls:
            name, state, states = chosen_state(url, read_archive(url), self._choice.key, self._choice.weights)
            if twice := sorted(tensors.keys() & state.tensors.keys()):
                raise DamagedCheckpoint(f"{url}: tensor {twice[0]!r} is in {of[twice[0]]} too, expected in one file")
            names.append(name)
            every.append(states)
            tensors |= state.tensors
            passed |= state.passed_over
            of |= dict.fromkeys(state.tensors, url)
        return names, State(tensors=tensors, passed_over=passed), of, every

    @property
    def _tensors(self) -> Mapping[str, Stored]:
        return self._found[1].tensors

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    @cached_property
    def dtypes(self) -> dict[str, torch.dtype]:
        return {name: tensor.dtype for name, tensor in self._tensors.items()}

    @property
    def passed_over(self) -> dict[str, str]:
        """Entries of the state dict other than tensors, and sparse tensors that are too large."""
        return dict(self._found[1].passed_over)

    @property
    def files(self) -> dict[str, str]:
        """The file that holds each tensor."""
        return {name: url.rpartition("/")[2] for name, url in self._found[2].items()}

    @property
    def shared(self) -> dict[str, str]:
        """Names that share elements and shape with an earlier name."""
        first: dict[Stored, str] = {}
        names = {name: first.setdefault(tensor, name) for name, tensor in self._tensors.items() if tensor.shape}
        return {name: other for name, other in names.items() if other != name}

    @property
    def sets(self) -> dict[str, bool]:
        """The state dicts of the file by name, and whether each is read."""
        chosen, _, _, every = self._found
        return {name: name in chosen for states in every for name in states.named}

    def read(self, name: str) -> Tensor:
        """The tensor; DamagedCheckpoint if the file's data do not match its description."""
        _, state, of, _ = self._found
        try:
            return state.tensors[name].read()
        except DamagedCheckpoint as error:
            raise DamagedCheckpoint(f"{of[name]}: tensor {name!r}: {error}") from None
        except FileNotFoundError:
            raise StoreError(f"{of[name]}: the file no longer exists") from None


def as_object(url: str, text: bytes) -> dict[str, object]:
    """Parse a JSON object; DamagedCheckpoint, naming the file, for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DamagedCheckpoint(f"{url}: expected a JSON object, found {text[:40]!r}")
    return found
