"""The weights with which a network computes: names unwrapped, products computed, scales applied."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from specdyn.storage.access import objects
from specdyn.storage.access.objects import StoreError
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.found import ForeignCheckpoint
from specdyn.storage.foreign.states import AVERAGED
from specdyn.storage.foreign.weights import ForeignWeights
from specdyn.tasks.foreign.network.layout import Look, Tensors, foreign_layout
from specdyn.tasks.foreign.series import ForeignSeries
from specdyn.tasks.foreign.weights import parametrised, quantised
from specdyn.tasks.foreign.weights.parametrised import Recipe, density, in_floats
from specdyn.tasks.foreign.weights.wrappers import NamedSet, chosen_set
from specdyn.tasks.spectra.network_layout import NetworkLayout

MASKS_READ = 2**26
"""Most entries of masks that are read to report their density."""


class ResolvedWeights(ForeignWeights):
    """The weights of a checkpoint by their names in the network, computed lazily.

    A computed weight has the type of the computation, others have their stored type.
    """

    def __init__(self, raw: ForeignWeights, config: Mapping[str, Any], weights: str = "") -> None:
        super().__init__()
        self._raw, self._config, self._weights = raw, config, weights

    @cached_property
    def _set(self) -> NamedSet:
        shapes = self._raw.shapes
        matrices = {name for name, shape in shapes.items() if len(shape) > 1}
        # A file may have several sets under keys, of which one is chosen.
        return chosen_set(list(shapes), matrices, self._weights, chosen_before=len(self._raw.sets) > 1)

    @cached_property
    def _parametrised(self) -> tuple[dict[str, Recipe], dict[str, str]]:
        return parametrised.recipes({name: self._raw.shapes[of] for name, of in self._set.names.items()})

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """The weights computed from several tensors, whose names are without wrappers."""
        shapes = {name: self._raw.shapes[of] for name, of in self._set.names.items()}
        dtypes = {name: self._raw.dtypes[of] for name, of in self._set.names.items()}
        made = self._parametrised[0]
        return made | quantised.recipes(
            shapes, dtypes, self._config, lambda name: self._raw.read(self._set.names[name])
        )

    @cached_property
    def _names(self) -> dict[str, str]:
        """Weights stored directly: name -> name in the file."""
        parts = {part for recipe in self.recipes.values() for part in recipe.parts} | set(self._parametrised[1])
        tied = self.tied
        return {name: of for name, of in self._set.names.items() if name not in parts and name not in tied}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        order = {part: name for name, recipe in self.recipes.items() for part in recipe.sources[:1]}
        found: dict[str, tuple[int, ...]] = {}
        for name, of in self._set.names.items():
            if name in order:
                found[order[name]] = self.recipes[order[name]].shape
            elif name in self._names and name not in self.recipes:
                found[name] = self._raw.shapes[of]
        return found

    @cached_property
    def dtypes(self) -> dict[str, torch.dtype]:
        made = dict.fromkeys(self.recipes, torch.float32)
        return {name: made[name] if name in made else self._raw.dtypes[self._names[name]] for name in self.shapes}

    def read(self, name: str) -> Tensor:
        """A weight, read directly or computed from its parts."""
        if (recipe := self.recipes.get(name)) is None:
            return self._raw.read(self._names[name])
        tensors = [self._raw.read(self._set.names[source]) for source in recipe.sources]
        floating = all(tensor.is_floating_point() and tensor.itemsize > 1 for tensor in tensors)
        return recipe.make(*(in_floats(tensors) if floating else tensors)).contiguous()

    @cached_property
    def tied(self) -> dict[str, str]:
        """Aliases of tensors that the file stores once, with the names that are kept."""
        short = {of: name for name, of in self._set.names.items()}
        return {short[of]: short[kept] for of, kept in self._raw.shared.items() if of in short and kept in short}

    @property
    def passed_over(self) -> dict[str, str]:
        """Entries that are skipped."""
        return self._raw.passed_over

    @property
    def sets(self) -> dict[str, bool]:
        """The sets of weights under keys of the file, and whether each is read."""
        return self._raw.sets

    @property
    def files(self) -> dict[str, str]:
        """The file that holds each weight, or the first of its parts."""
        of = {name: recipe.sources[0] for name, recipe in self.recipes.items()}
        return {name: self._raw.files.get(self._set.names[of.get(name, name)], "") for name in self.shapes}

    @property
    def told(self) -> tuple[str, ...]:
        """Notes on the choice among several sets of weights."""
        return self._set.told

    def tensors(self) -> Tensors:
        """Shapes, types and recipes of the tensors; reads nothing but masks."""
        left_out = {name: (self._shape(name), why) for name, why in self._parametrised[1].items()}
        budget = MASKS_READ
        for recipe in self.recipes.values():
            for part, what in recipe.parts.items():
                shape = self._shape(part)
                keeps = ""
                if what.startswith("the mask") and (budget := budget - torch.Size(shape).numel()) > 0:
                    keeps = f", which keeps {density(self._raw.read(self._set.names[part])):.4g} of it"
                left_out[part] = shape, what + keeps
        made = {name: recipe.how for name, recipe in self.recipes.items()}
        return Tensors(shapes=self.shapes, dtypes=self.dtypes, made=made, left_out=left_out, tied=self.tied)

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._raw.shapes[self._set.names[name]]


@dataclass(frozen=True, slots=True)
class ReadSeries(ForeignSeries):
    """A series whose weights are those with which its network computes."""

    chosen: str = ""
    """The chosen set of weights, from `--weights`."""

    def weights(self, step: int) -> ResolvedWeights:
        """The weights of a step, computed lazily."""
        checkpoint = self.found.checkpoints[self.steps.index(step)]
        chosen = "" if self._is_named(checkpoint) else self.chosen
        return ResolvedWeights(checkpoint.weights(), config_of(checkpoint), chosen)

    def _is_named(self, checkpoint: ForeignCheckpoint) -> bool:
        """Whether a file or folder of a checkpoint was chosen by its name as the requested set."""
        url = checkpoint.urls[0]
        name = url.removeprefix(self.found.url) or url.rpartition("/")[2]
        averaged = self.chosen == "ema" and AVERAGED.search(name)
        return bool(self.chosen) and bool(averaged or self.chosen.lower() in name.lower())

    def layout(self, look: Look) -> NetworkLayout:
        """The layers and pairs, from all tensors of the series and the config.json next to them.

        A tensor's shape is that in the first checkpoint that has it. Unreadable checkpoints are left to the audit; if
        all are unreadable, the first error is raised.
        """
        tensors, config, told = Tensors(shapes={}, dtypes={}), dict[str, Any](), tuple[str, ...]()
        failed: Exception | None = None
        for step, checkpoint in zip(self.steps, self.found.checkpoints, strict=True):
            try:
                weights = self.weights(step)
                new = weights.shapes.keys() - tensors.shapes.keys()
            except (DamagedCheckpoint, StoreError) as error:
                failed = failed or error
                continue
            if new:
                config, told = config or config_of(checkpoint), told or weights.told
                tensors = tensors.with_new_of(weights.tensors())
        if failed is not None and not tensors.shapes:
            raise failed
        return replace(foreign_layout(tensors, config, look), told=told)


def config_of(checkpoint: ForeignCheckpoint) -> dict[str, Any]:
    """The config.json next to a checkpoint, or Meta's params.json; empty if there is none."""
    for name in ("config.json", "params.json"):
        try:
            found = json.loads(objects.read(f"{checkpoint.folder}/{name}"))
        except (FileNotFoundError, ValueError):
            continue
        if isinstance(found, dict):
            return found
    return {}
