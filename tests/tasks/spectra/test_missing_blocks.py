"""Any blocks of a run may be missing, in any order: analysing these gives what the undisturbed run has."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from reference.series import TOTAL, HandMade, body_of, seeded, stored, target_of
from specdyn.models.nets.matrices import LayerPair
from specdyn.storage.access.objects import delete
from specdyn.storage.results import part_name
from specdyn.tasks.plan.runs import analysed
from specdyn.tasks.spectra.analysis import versions_of
from specdyn.tasks.spectra.network_layout import Target
from specdyn.tasks.spectra.one_pass import analyse_block, decompose_step
from specdyn.tasks.spectra.series import anchor_steps, needed

ANALYSES = ("spectrum", "agreement_initial", "agreement_previous", "trajectory")
"""Of one checkpoint; with the first, which stands for the last too; with the one before; of the whole run."""
SHORT = (0, 10, 20, 30)
"""Blocks of one checkpoint each, as any run of at most eight has."""
LONGER = tuple(range(0, 90, 10))
"""Nine checkpoints: four blocks of two and one of one."""


def series_of(steps: Sequence[int]) -> HandMade:
    """Two layers that move from checkpoint to checkpoint."""
    return HandMade({s: {"a.weight": seeded(s, 5, 3), "b.weight": seeded(s + 1, 4, 5)} for s in steps})


def analyse(series: HandMade, target: Target, backwards: bool = False) -> list[tuple[int, ...]]:
    """Plan from the names of objects alone and do what is planned, as the flow does; returns the blocks."""
    body = body_of(series.weights(0), pairs_of(series))
    missing = analysed(target.folder, series.steps, ANALYSES).missing
    anchors = {step: decompose_step(series, body, step) for step in anchor_steps(series.steps, missing)}
    for block, names in sorted(missing.items(), reverse=backwards):
        mine = [anchors[step] for step in needed(series.steps, block) if step in anchors]
        analyse_block(series, body, target, block, names, *mine)
    return list(missing)


def pairs_of(series: HandMade) -> list[LayerPair]:
    """The first layer writes what the second reads."""
    a, b = body_of(series.weights(0)).layers
    return [LayerPair(writer=a, reader=b)]


def lose(target: Target, blocks: Sequence[tuple[int, ...]]) -> None:
    """Take away the objects of blocks."""
    for block in blocks:
        delete(f"{target.folder}/{part_name(block, versions_of(ANALYSES))}")


def subsets(blocks: Sequence[tuple[int, ...]], sizes: Sequence[int]) -> list[tuple[tuple[int, ...], ...]]:
    return [some for size in sizes for some in itertools.combinations(blocks, size)]


@pytest.mark.parametrize(
    ("steps", "sizes"),
    [(SHORT, range(5)), (LONGER, (1, 4)), ((0,), range(2)), ((0, 10), range(3))],
    ids=["blocks of one", "blocks of two", "one block", "two blocks"],
)
def test_any_blocks_that_are_missing_are_analysed_as_in_the_undisturbed_run(
    tmp_path: Path, steps: tuple[int, ...], sizes: Sequence[int]
) -> None:
    series = series_of(steps)
    body = body_of(series.weights(0), pairs_of(series))
    target = target_of(str(tmp_path), series, body, ANALYSES, TOTAL)
    blocks = target.layout.blocks()
    assert analyse(series, target) == blocks
    undisturbed = stored(target)
    for i, lost in enumerate(subsets(blocks, sizes)):
        lose(target, lost)
        assert analyse(series, target, backwards=bool(i % 2)) == list(lost)
        assert analysed(target.folder, series.steps, ANALYSES).missing == {}
        for name, values in stored(target).items():
            np.testing.assert_array_equal(values, undisturbed[name], err_msg=f"{name} after losing {lost}")
