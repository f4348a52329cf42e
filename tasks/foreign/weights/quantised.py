"""Dequantises weights in the documented formats, and refuses unknown ones."""

import functools
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from specdyn.tasks.foreign.weights.parametrised import Recipe, Shapes

Dtypes = Mapping[str, torch.dtype]
Read = Callable[[str], Tensor]
Config = Mapping[str, Any]
Made = tuple[str, Recipe] | None
"""Name and recipe of a weight, if a tensor is the main one of a format."""

EIGHT_BITS = {torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.int8}
FLOATS8 = EIGHT_BITS - {torch.int8}
INTEGERS = {torch.int8, torch.uint8, torch.int32}
SCALES = ("_scale_inv", "_scale", "._scale")
"""Suffixes of a weight's name that name its scales."""
SCALE = "scales of a quantised weight"
BLOCK = 128
"""Default rows and columns of a block if config.json does not give them and the shapes agree."""
FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Order of the eight numbers in a word of AWQ."""


NOT_READ = {
    "NVFP4": "some writers multiply by its second scale and others divide by it",
    "HQQ": "its file names the order of the bits by functions of its own, and its zero points may be quantised too",
    "quanto with 4 bits or fewer": "the file does not say how its rows are grouped",
}
"""Recognised but unsupported formats, with the reason."""


class Quantised(ValueError):
    """A weight is stored in an unknown or unsupported format; the message says which, and how it is stored."""


def recipes(shapes: Shapes, dtypes: Dtypes, config: Config, read: Read) -> dict[str, Recipe]:
    """Recipes of quantised weights by their names in the network; Quantised names one of unknown format."""
    given = config.get("quantization_config")
    how = given if isinstance(given, Mapping) else {}
    made: dict[str, Recipe] = {}
    for name in shapes:
        if (known := _not_read(name, shapes, dtypes)) and len(shapes[name]) > 1:
            raise Quantised(
                f"{name} {shapes[name]} is stored in the unsupported format {known} ({NOT_READ[known]}): load "
                "the model with the library that wrote it, and save its weights in floating point"
            )
        for kind in KINDS:
            if (found := kind(name, shapes, dtypes, how, read)) is not None:
                made[found[0]] = found[1]
                break
    used = {part for recipe in made.values() for part in (*recipe.parts, *recipe.sources)}
    for name, shape in shapes.items():
        if len(shape) > 1 and name not in used and (why := _unknown(name, shapes, dtypes, how)):
            raise Quantised(
                f"{name} {shape} is stored as {_plain(dtypes[name])}, {why}: expected scales as in the formats fp8 "
                "(weight_scale_inv, weight_scale), int8 (SCB, weight_scale), bitsandbytes, GPTQ, AWQ, MXFP4 or packed "
                "int4; save the weights in floating point first"
            )
    return made


def _not_read(name: str, shapes: Shapes, dtypes: Dtypes) -> str:
    """The format in NOT_READ of a tensor, whatever its type, as HQQ may store its bits as floats."""
    stem, _, last = name.rpartition(".")
    seconds = {f"{stem}.weight_scale_2", f"{stem}.weight_global_scale"}
    if last in ("weight", "weight_packed") and dtypes[name] == torch.uint8 and seconds & shapes.keys():
        return "NVFP4" if dtypes.get(f"{stem}.weight_scale") in FLOATS8 else ""
    if last == "W_q" and {f"{stem}.scale", f"{stem}.zero"} <= shapes.keys():
        return "HQQ"
    if last == "_data" and f"{stem.removesuffix('._data')}._shift" in shapes:
        return "quanto with 4 bits or fewer"
    return ""


def _unknown(name: str, shapes: Shapes, dtypes: Dtypes, how: Config) -> str:
    """Why a tensor must belong to an unknown format; empty if it is a plain tensor."""
    stem, last = name.rpartition(".")[0], name.rpartition(".")[2]
    beside = [other for other in shapes if other.startswith(f"{stem}.") and "scale" in other and "input" not in other]
    if dtypes[name] in FLOATS8 and (beside or how):
        return f"by {how.get('quant_method', 'a format')} that gives its scales as {beside or 'nothing'}"
    if dtypes[name] in INTEGERS and last in ("weight", "qweight", "weight_packed", "W_q", "_data", "_packed"):
        return f"by {how.get('quant_method', 'an unknown format')}"
    return ""


def _scaled(name: str, shapes: Shapes, dtypes: Dtypes, how: Config, read: Read) -> Made:
    """fp8 and int8 with one scale overall, per row, or per block."""
    weight = name.removesuffix("._data")
    if dtypes[name] not in EIGHT_BITS or len(shapes[name]) < 2:
        return None
    stem = weight.rpartition(".")[0]
    names = [*(weight + end for end in SCALES), f"{stem}.scale_weight"]
    scale = next((other for other in names if other in shapes), None)
    if scale is None or any(f"{weight}{end}" in shapes for end in ("_scale_2", "_zero_point")):
        return None
    steps = _steps(shapes[name], shapes[scale], how)
    if steps is None:
        raise Quantised(
            f"{name} {shapes[name]} has scales {scale} {shapes[scale]}, which are none of one number, one a row, and "
            "one a block: expected weight_block_size in config.json"
        )
    make = functools.partial(_times_scale, steps=steps)
    of = f"{_plain(dtypes[name])} times {scale.rpartition('.')[2]}"
    return weight, _recipe((name, scale), make, shapes[name], of, (scale,))


def _steps(shape: tuple[int, ...], scale: tuple[int, ...], how: Config) -> tuple[int, int] | None:
    """Rows and columns that share a scale; None if the shapes do not determine it."""
    if math.prod(scale) == 1:
        return shape[-2], shape[-1]
    rows, columns = (scale[-2], scale[-1]) if len(scale) > 1 else (scale[0], 1)
    given = how.get("weight_block_size")
    steps = []
    for size, count, block in zip(shape[-2:], (rows, columns), given or (BLOCK, BLOCK), strict=True):
        if count in (1, size):
            steps.append(size // count)
        elif -(-size // int(block)) == count:
            steps.append(int(block))
        elif not given and size % count == 0:
            steps.append(size // count)
        else:
            return None
    return steps[0], steps[1]


def _times_scale(w: Tensor, scale: Tensor, steps: tuple[int, int]) -> Tensor:
    if scale.numel() > 1:
        scale = scale[:, None] if scale.ndim == 1 else scale
        scale = scale.repeat_interleave(steps[0], -2).repeat_interleave(steps[1], -1)[..., : w.shape[-2], : w.shape[-1]]
    return w.float() * scale.float()


def _by_rows(name: str, shapes: Shapes, dtypes: Dtypes, how: Config, read: Read) -> Made:
    """LLM.int8 of bitsandbytes: rows times their largest entry / 127."""
    stem, _, last = name.rpartition(".")
    largest = f"{stem}.SCB"
    if last != "weight" or dtypes[name] != torch.int8 or largest not in shapes:
        return None
    make: Callable[..., Tensor] = lambda w, top: w.float() * (top.float() / 127)[:, None]  # noqa: E731
    others = tuple(other for other in (largest, f"{stem}.weight_format") if other in shapes)
    return name, _recipe((name, largest), make, shapes[name], "int8 times SCB / 127", others)


def _bitsandbytes(name: str, shapes: Shapes, dtypes: Dtypes, how: Config, read: Read) -> Made:
    """Four bits of bitsandbytes: an entry of a table times the largest of its block."""
    weight, _, kind = name.partition(".quant_state.bitsandbytes__")
    if kind not in ("nf4", "fp4"):
        return None
    state = json.loads(bytes(read(name).tolist()))
    nested = tuple(f"{weight}.{part}" for part in ("nested_absmax", "nested_quant_map") if f"{weight}.{part}" in shapes)
    sources = (weight, f"{weight}.absmax", f"{weight}.quant_map", *nested)
    make = functools.partial(_from_table, state=state)
    return weight, _recipe(
        sources, make, tuple(state["shape"]), f"4 bits of bitsandbytes ({kind})", (*sources[1:], name)
    )


def _from_table(packed: Tensor, largest: Tensor, table: Tensor, *nested: Tensor, state: Mapping[str, Any]) -> Tensor:
    if nested:
        outer = nested[0].repeat_interleave(int(state["nested_blocksize"]))[: largest.numel()]
        largest = nested[1][largest.long()] * outer + state["nested_offset"]
    flat = packed.flatten().long()
    entries = table[torch.stack([flat >> 4, flat & 15], -1).flatten()][: math.prod(state["shape"])]
    return (entries * largest.repeat_interleave(int(state["blocksize"]))[: len(entries)]).view(*state["shape"])


def _packed_words(name: str, shapes: Shapes, dtypes: Dtypes, how: Config, read: Read) -> Made:
    """GPTQ and AWQ: words of 32 bits with scales and zeros of groups of inputs."""
    stem, _, last = name.rpartition(".")
    method = str(how.get("quant_method", "")).lower()
    if last != "qweight" or method not in ("gptq", "awq") or int(how.get("bits", 0)) not in (2, 4, 8):
        return None
    bits, each = int(how["bits"]), 32 // int(how["bits"])
    order = f"{stem}.g_idx"
    sources = (name, f"{stem}.qzeros", f"{stem}.scales", *((order,) if order in shapes else ()))
    if any(source not in shapes for source in sources) or (method == "awq" and bits != 4):
        return None
    first, second = shapes[name]
    inputs, outputs = (first * each, second) if method == "gptq" else (first, second * each)
    added = 1 if method == "gptq" and how.get("checkpoint_format", "gptq") == "gptq" else 0
    make = functools.partial(_from_gptq, bits=bits, added=added) if method == "gptq" else _from_awq
    return f"{stem}.weight", _recipe(sources, make, (outputs, inputs), f"{bits} bits of {method.upper()}", sources)


def _from_gptq(words: Tensor, zeros: Tensor, *grouped: Tensor, bits: int, added: int) -> Tensor:
    return _of_groups(_unpacked(words.mT, bits).mT, _unpacked(zeros, bits) + added, *grouped)


def _from_awq(words: Tensor, zeros: Tensor, *grouped: Tensor) -> Tensor:
    return _of_groups(_unpacked(words, 4, awq=True), _unpacked(zeros, 4, awq=True), *grouped)


def _of_groups(w_NM: Tensor, zeros_GM: Tensor, scales: Tensor, order: Tensor | None = None) -> Tensor:
    size = -(-len(w_NM) // len(scales))
    group = torch.arange(len(w_NM)) // size if order is None else order.long()
    return ((w_NM - zeros_GM[group]) * scales.float()[group]).mT.contiguous()


def _unpacked(words: Tensor, bits: int, awq: bool = False) -> Tensor:
    """Unpack words (A, B) into numbers (A, B * 32 / bits), lowest bits first."""
    shifts = torch.arange(0, 32, bits)
    if awq:
        shifts = shifts[list(AWQ_ORDER)]
    return ((words[..., None].long() >> shifts) & (2**bits - 1)).flatten(-2).float()


def _compressed(name: str, shapes: Shapes, dtypes: Dtypes, how: Config, read: Read) -> Made:
    """Packed integers of compressed-tensors, around zero."""
    stem, _, last = name.rpartition(".")
    scale, shape = f"{stem}.weight_scale", f"{stem}.weight_shape"
    if last != "weight_packed" or shape not in shapes or scale not in shapes or f"{stem}.weight_zero_point" in shapes:
        return None
    rows, columns = (int(size) for size in read(shape))
    bits = next((bits for bits in (4, 8) if -(-columns * bits // 32) == shapes[name][1]), 0)
    steps = _steps((rows, columns), shapes[scale], {})
    if not bits or steps is None:
        return None

    def make(words: Tensor, scales: Tensor) -> Tensor:
        return _times_scale(_unpacked(words, bits)[:, :columns] - 2 ** (bits - 1), scales, steps)

    return f"{stem}.weight", _recipe(
        (name, scale), make, (rows, columns), f"packed int{bits} times scale", (name, scale, shape)
    )


def _mxfp4(name: str, shapes: Shapes, dtypes: Dtypes, how: Config, read: Read) -> Made:
    """MXFP4 of gpt-oss: blocks of 32 4-bit numbers with a power-of-two scale; swaps inputs and outputs."""
    weight, scales = name.removesuffix("_blocks"), name.removesuffix("_blocks") + "_scales"
    if weight == name or scales not in shapes or dtypes[name] != torch.uint8:
        return None
    *leading, rows, blocks, size = shapes[name]
    return weight, _recipe((name, scales), _from_mxfp4, (*leading, blocks * size * 2, rows), "MXFP4", (name, scales))


def _from_mxfp4(blocks: Tensor, scales: Tensor) -> Tensor:
    table = torch.tensor([*FP4, *(-value for value in FP4)])
    low, high = table[(blocks & 15).long()], table[(blocks >> 4).long()]
    numbers = torch.stack([low, high], -1).flatten(-2)
    return torch.ldexp(numbers, (scales.int() - 127)[..., None]).flatten(-2).transpose(-1, -2).contiguous()


def _recipe(
    sources: tuple[str, ...], make: Callable[..., Tensor], shape: tuple[int, ...], how: str, parts: tuple[str, ...]
) -> Recipe:
    return Recipe(sources=sources, make=make, shape=shape, how=how, parts=dict.fromkeys(parts, SCALE))


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


KINDS = (_bitsandbytes, _by_rows, _packed_words, _compressed, _mxfp4, _scaled)
