"""The pass over all five architectures: how often it decomposes, what it reads, and that it fills everything."""

import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from reference.networks import MINIATURES, build, checkpoint
from reference.series import HandMade, stored, target_of
from specdyn.tasks.spectra import decomposition, one_pass
from specdyn.tasks.spectra.analysis import analysis_names, default_analyses, get_analysis
from specdyn.tasks.spectra.decomposition import Factors, decompose
from specdyn.tasks.spectra.one_pass import analyse_block, decompose_step
from specdyn.tasks.spectra.series import anchor_steps, needed

STEPS = tuple(range(0, 100, 10))
NEEDED = {
    # layers, parts that the published pairs need, then queries and keys by head; what we add: values by head,
    # columns of the output projection by head, and the reverse half of the linear layer
    "modular addition": 6 + 1 + 2 + 2,
    "VGG-16": 14,
    "UNet": 16,
    "BiLSTM": 17 + 6 + 1 + 1,
    "12-layer transformer": 50 + 12 + 24 + 24,
}
DATALESS = [name for name in analysis_names() if not get_analysis(name).needs_data]
SPECTRA_ONLY = [name for name in DATALESS if not get_analysis(name).needs_vectors]


class Counted(Mapping[str, Tensor]):
    """Weights that count which parameters are asked for."""

    def __init__(self, weights: Mapping[str, Tensor], reads: Counter[str]) -> None:
        self.weights, self.reads = weights, reads

    def __getitem__(self, name: str) -> Tensor:
        self.reads[name] += 1
        return self.weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


@pytest.mark.parametrize("name", MINIATURES)
def test_every_matrix_of_every_checkpoint_is_decomposed_exactly_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, body = build(name, miniature=True)
    series = HandMade({step: checkpoint(net, 0.1, step) for step in STEPS}, name="run")
    calls: Counter[str] = Counter()

    def counted(w: Tensor, what: str = "matrix", vectors: bool = True) -> Factors:
        calls[what] += 1
        return decompose(w, what, vectors)

    monkeypatch.setattr(one_pass, "decompose", counted)
    monkeypatch.setattr(decomposition, "decompose", counted)
    analyses = [analysis for analysis in DATALESS if get_analysis(analysis).default]
    target = target_of(str(tmp_path), series, body, analyses)
    blocks = target.layout.blocks()
    anchors = {step: decompose_step(series, body, step) for step in anchor_steps(STEPS, blocks)}
    made = sum(
        analyse_block(
            series, body, target, block, analyses, *(anchors[s] for s in needed(STEPS, block) if s in anchors)
        )
        for block in blocks
    )
    assert len(body.matrices) == NEEDED[name]
    assert set(calls.values()) == {1}
    assert len(calls) == NEEDED[name] * len(STEPS)
    assert made + len(anchors) * NEEDED[name] == len(calls)
    found = stored(target)
    assert np.isfinite(found["agreement_score"]).all()
    assert np.isfinite(found["alignment_score"]).all()


@pytest.mark.parametrize("name", MINIATURES)
def test_singular_values_alone_decompose_layers_only_and_give_the_same_numbers(name: str, tmp_path: Path) -> None:
    net, body = build(name, miniature=True)
    series = HandMade({step: checkpoint(net, 0.1, step) for step in (0, 10)}, name="run")
    found = {}
    for analyses in (SPECTRA_ONLY, [*SPECTRA_ONLY, "agreement"]):
        target = target_of(str(tmp_path / str(len(analyses))), series, body, analyses)
        vectors = "agreement" in analyses
        anchors = [decompose_step(series, body, step, vectors) for step in series.steps]
        assert {len(factors) for _, factors in anchors} == {len(body.matrices if vectors else body.layers)}
        for block in target.layout.blocks():
            analyse_block(series, body, target, block, analyses, *anchors)
        found[vectors] = stored(target)
    for key in found[False].keys() & {"singular_value", "effective_rank", "stable_rank", "mp_spikes", "frobenius_norm"}:
        np.testing.assert_allclose(found[False][key], found[True][key], rtol=1e-4, atol=1e-6, err_msg=key)


def test_a_parameter_is_read_once_for_all_its_matrices() -> None:
    net, body = build("12-layer transformer", miniature=True)
    reads: Counter[str] = Counter()
    series = HandMade({0: Counted(checkpoint(net, 0.1, 0), reads)}, name="run")
    decompose_step(series, body, 0)
    assert reads == Counter({layer.parameter: 1 for layer in body.layers})


def test_only_what_is_large_or_slow_is_left_out_by_default() -> None:
    left_out = set(analysis_names()) - set(default_analyses())
    assert left_out == {
        *("agreement_full", "pruning_by_layer", "pruning_controls", "pruning_curve", "pruning_deciles"),
        *("projections", "representations", "update_windows"),
    }


class Watched(dict[str, Tensor]):
    """Weights that can be referred to weakly, each unlike any other."""

    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__


class WatchedSeries(HandMade):
    """A series that reads its checkpoints again and remembers which were read and which are alive."""

    reads: Counter[int]
    alive: "weakref.WeakSet[Watched]"
    most: int

    def weights(self, step: int) -> Mapping[str, Tensor]:
        found = Watched({name: w.clone() for name, w in self.checkpoints[step].items()})
        self.reads[step] += 1
        self.alive.add(found)
        self.__dict__["most"] = max(self.most, len(self.alive))
        return found


@pytest.mark.parametrize("steps", [6, 40])
def test_the_checkpoints_in_memory_and_their_reads_do_not_grow_with_the_run(steps: int, tmp_path: Path) -> None:
    net, body = build("modular addition", miniature=True)
    series = WatchedSeries({step: checkpoint(net, 0.1, step) for step in range(steps)})
    series.__dict__.update(reads=Counter(), alive=weakref.WeakSet(), most=0)
    analyses = [name for name in default_analyses() if not get_analysis(name).needs_data and name != "trajectory"]
    target = target_of(str(tmp_path), series, body, analyses)
    blocks = target.layout.blocks()
    anchors = {step: decompose_step(series, body, step) for step in anchor_steps(series.steps, blocks)}
    assert series.reads == Counter(dict.fromkeys(anchors, 1))
    for block in blocks:
        before = Counter(series.reads)
        given = [anchors[step] for step in needed(series.steps, block) if step in anchors]
        analyse_block(series, body, target, block, analyses, *given)
        extra = series.reads - before
        # Each of the block's own, the first, and the one before; the last for the null levels of the run.
        own = dict.fromkeys(block, 1)
        first, previous = 1, 1 if block[0] else 0
        last = 1 if block[-1] == steps - 1 else 0
        assert sum(extra.values()) == len(own) + first + previous + last
    # This one, the one before, the next, the first and the last.
    assert series.most <= 5
