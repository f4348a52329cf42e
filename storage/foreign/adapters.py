"""Reads low-rank adapters (LoRA) as the products that they add to each weight."""

import math
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.weights import ForeignWeights

FACTOR = re.compile(r"^(?:base_model\.model\.)?(?P<module>.*)\.lora_(?P<embedding>embedding_)?(?P<factor>[AB])(\.|$)")
"""Names of the factors; a following word is the adapter's name."""
MAGNITUDE = re.compile(r"\.lora_magnitude_vector")


class AdapterWeights(ForeignWeights):
    """The products s B A of an adapter, named after the weights to which they are added.

    s is lora_alpha / r, or lora_alpha / sqrt(r) with rslora, per module if the configuration says so. Tensors other
    than factors are returned unchanged.
    """

    def __init__(self, factors: ForeignWeights, config: Mapping[str, Any], url: str) -> None:
        super().__init__()
        self._factors, self._config, self._url = factors, config, url

    @cached_property
    def _pairs(self) -> dict[str, dict[str, str]]:
        """The names of A and B, by the weight to which their product is added."""
        pairs: dict[str, dict[str, str]] = {}
        for name in self._factors.shapes:
            if match := FACTOR.search(name):
                of = pairs.setdefault(f"{match['module']}.weight", {"embedding": match["embedding"] or ""})
                of[match["factor"]] = name
        for weight, pair in pairs.items():
            if missing := {"A", "B"} - pair.keys():
                raise DamagedCheckpoint(f"{self._url}: {weight} has no factor {missing.pop()}, expected A and B")
            a, b = (self._factors.shapes[pair[factor]] for factor in "AB")
            if len(a) < 2 or len(b) < 2 or a[0] != b[1]:
                raise DamagedCheckpoint(f"{self._url}: {weight}: factors B {b} and A {a} do not fit")
        return pairs

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        factors = {pair[factor] for pair in self._pairs.values() for factor in "AB"}
        products = {weight: self._shape(pair) for weight, pair in self._pairs.items()}
        others = {n: s for n, s in self._factors.shapes.items() if n not in factors and not MAGNITUDE.search(n)}
        return products | others

    @cached_property
    def dtypes(self) -> dict[str, torch.dtype]:
        return {n: torch.float32 if n in self._pairs else self._factors.dtypes[n] for n in self.shapes}

    @property
    def passed_over(self) -> dict[str, str]:
        """DoRA magnitudes, which scale the sum with base weights that are not in the file."""
        why = "a DoRA magnitude, which scales the sum with the base model's weights; B A is analysed without it"
        return self._factors.passed_over | {n: why for n in self._factors.shapes if MAGNITUDE.search(n)}

    def read(self, name: str) -> Tensor:
        """A product, in float32, or another tensor as it is stored."""
        if (pair := self._pairs.get(name)) is None:
            return self._factors.read(name)
        a, b = (self._factors[pair[factor]].flatten(1) for factor in "AB")
        product = self.scaling(name.removesuffix(".weight")) * (b @ a)
        return product.mT if self._transposed(pair) else product.reshape(self._shape(pair))

    def scaling(self, module: str) -> float:
        """The scaling factor of a module's product; DamagedCheckpoint if the configuration lacks it."""
        try:
            rank = int(_of_module(self._config.get("rank_pattern"), module, self._config["r"]))
            alpha = float(_of_module(self._config.get("alpha_pattern"), module, self._config["lora_alpha"]))
            return alpha / (math.sqrt(rank) if self._config.get("use_rslora") else rank)
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            raise DamagedCheckpoint(f"{self._url}: adapter_config.json: expected numbers r and lora_alpha") from None

    def _transposed(self, pair: Mapping[str, str]) -> bool:
        return bool(pair["embedding"] or self._config.get("fan_in_fan_out"))

    def _shape(self, pair: Mapping[str, str]) -> tuple[int, ...]:
        a, b = (self._factors.shapes[pair[factor]] for factor in "AB")
        return (a[1], b[0]) if self._transposed(pair) else (b[0], *a[1:])


def _of_module(patterns: Any, module: str, otherwise: Any) -> Any:
    """The value of the pattern that matches the end of a module's name, or `otherwise`."""
    for pattern, value in (patterns or {}).items():
        if re.search(rf"(^|\.){pattern}$", module):
            return value
    return otherwise
