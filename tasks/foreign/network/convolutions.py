"""Infers which convolutions are transposed or grouped from other tensors, as files do not record it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specdyn.models.nets.matrices import FLATTENED, SWAPPED, Matrix
from specdyn.tasks.foreign.network.anatomy import Shapes

NUMBERED = re.compile(r"^(?P<before>(?:.*\.)?)(?P<number>\d+)\.weight$")
"""Name of a layer in an `nn.Sequential`, where each layer reads the previous one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """Properties of a convolution's module, if a model is available and not only tensors."""

    transposed: bool
    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """How a convolution is split into matrices, and the evidence for it."""

    matrices: tuple[Matrix, ...]
    way: str
    skipped: str = ""
    """Why it is not a layer."""


def convolution(
    name: str, shapes: Shapes, named_transposed: re.Pattern[str], written: int = 0, module: Module | None = None
) -> Convolution:
    """A convolution by its module, else by its bias, by the normalisation after it, or by its name.

    Without any such evidence it is read as (out, in, kernel). `written` is the number of input channels, if known.
    """
    shape = shapes[name]
    if module:
        if module.transposed and module.groups > 1:
            return Convolution(
                matrices=(), way="", skipped="a grouped transposed convolution, which is not a single matrix"
            )
        transposed, told, written = module.transposed, "", shape[1] * module.groups
    else:
        transposed, told = _transposed(name, shapes, named_transposed)
    if transposed:
        return Convolution(matrices=(Matrix(parameter=name, transposed=True),), way=f"{SWAPPED}: transposed{told}")
    written = written or _written_before(name, shapes)
    if shape[1] == 1 and shape[0] > 1 and (written == shape[0] or (not written and not _first(name, shapes))):
        return Convolution(
            matrices=(), way="", skipped="a kernel a channel (depthwise): vectors, which mix no channels"
        )
    groups = written // shape[1] if written and written % shape[1] == 0 and shape[0] % (written // shape[1]) == 0 else 1
    if groups > 1:
        size = shape[0] // groups
        parts = tuple(
            Matrix(parameter=name, part=f"group {i + 1}", rows=(i * size, (i + 1) * size)) for i in range(groups)
        )
        return Convolution(matrices=parts, way=f"{FLATTENED}, one of {groups} groups, as {written} channels come in")
    return Convolution(matrices=(Matrix(parameter=name),), way=FLATTENED + told)


def _transposed(name: str, shapes: Shapes, by_name: re.Pattern[str]) -> tuple[bool, str]:
    """Whether a convolution is transposed, and the evidence."""
    first, second = shapes[name][:2]
    if by_name.search(name.lower()) and (first == second or _length(name, shapes) != first):
        return True, " by its name"
    for what, length in (("bias", _length(name, shapes)), ("normalisation", _length_after(name, shapes))):
        if length == first:
            return False, ""
        if length == second:
            return True, f", as its {what} has {length} entries"
    if chain := _chain(name, shapes):
        return chain == "transposed", f", as the next convolution has {second} channels first" * (chain == "transposed")
    return False, "" if first == second else "; unknown whether it is transposed"


def _length(name: str, shapes: Shapes) -> int:
    shape = shapes.get(name.removesuffix("weight") + "bias", ())
    return shape[0] if name.endswith("weight") and len(shape) == 1 else 0


def _length_after(name: str, shapes: Shapes) -> int:
    """Length of the normalisation that follows in a sequence of layers."""
    if not (match := NUMBERED.fullmatch(name)):
        return 0
    shape = shapes.get(f"{match['before']}{int(match['number']) + 1}.weight", ())
    return shape[0] if len(shape) == 1 else 0


def _siblings(name: str, shapes: Shapes) -> tuple[int, Mapping[int, tuple[int, ...]]]:
    """The index of a layer in its sequence, and the shapes of all weights in it by index."""
    if not (match := NUMBERED.fullmatch(name)):
        return 0, {}
    found = {}
    for other, shape in shapes.items():
        if (at := NUMBERED.fullmatch(other)) and at["before"] == match["before"] and len(shape) >= 2:
            found[int(at["number"])] = shape
    return int(match["number"]), found


def _chain(name: str, shapes: Shapes) -> str:
    """Whether the next layer of the sequence reads the second size of this one or the first; empty if both or none."""
    number, layers = _siblings(name, shapes)
    after = [shape for at, shape in sorted(layers.items()) if at > number]
    if not after:
        before = [shape for at, shape in sorted(layers.items()) if at < number]
        return _fits(before[-1], shapes[name]) if before else ""
    return _fits(shapes[name], after[0])


def _fits(shape: Sequence[int], after: Sequence[int]) -> str:
    plain, transposed = shape[0] == after[1], shape[1] == after[0]
    return "" if plain == transposed else "transposed" if transposed else "plain"


def _written_before(name: str, shapes: Shapes) -> int:
    """Output channels of the previous convolution in a sequence; 0 if there is none."""
    number, layers = _siblings(name, shapes)
    before = [shape for at, shape in sorted(layers.items()) if at < number and len(shape) > 2]
    return before[-1][0] if before else 0


def _first(name: str, shapes: Shapes) -> bool:
    """Whether no convolution precedes it, so that it may read a single-channel image."""
    return next(other for other, shape in shapes.items() if len(shape) > 2) == name
