"""Where branches begin: steps, epochs, or a number of them; what is refused."""

import dataclasses
import itertools

import pytest

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.storage.places import Store
from specdyn.tasks.plan import splits
from specdyn.tasks.plan.splits import rewind_step, split_steps

SMOKE = get_experiment("modular_addition").preset("smoke").spec
TRUNK = dataclasses.replace(SMOKE, steps=40)
PAPER = get_experiment("image_classification").preset("paper").spec
EPOCH = 352
INNER = (0, 70, 140, 210, 280)


@pytest.fixture
def cifar(monkeypatch: pytest.MonkeyPatch) -> RunSpec:
    """The published VGG-16, with the length of its epochs and without its data."""
    monkeypatch.setattr(splits, "steps_of_an_epoch", lambda spec, store: EPOCH)
    return PAPER


@pytest.mark.parametrize("count", [1, 2, 4, 100])
def test_splits_are_checkpoints_before_the_last_half_of_them_early(count: int) -> None:
    spec = with_settings(TRUNK, steps=60, early_checkpoints=3, batch_size=8)
    chosen = split_steps(spec, Store("nowhere"), None, count)
    assert len(chosen) == min(count, 9)  # three early ones and every tenth before the last
    assert chosen == tuple(sorted(set(chosen)))
    assert chosen[0] == 0 and 60 not in chosen


def test_ten_splits_are_the_papers(cifar: RunSpec) -> None:
    chosen = split_steps(cifar, Store("nowhere"), None, 10)
    assert chosen[:5] == INNER
    later = [divmod(step, EPOCH) for step in chosen[5:]]
    assert [rest for _, rest in later] == [0] * 5
    epochs = [epoch for epoch, _ in later]
    assert (epochs[0], epochs[-1]) == (1, 163)
    gaps = [after - before for before, after in itertools.pairwise(epochs)]
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ([13], "splits=13 is not allowed: expected checkpoints of the trunk before its last: 0, 10, 20, 30"),
        ([40], "40"),
        ([10, 10], r"splits=\[10, 10\] is not allowed: expected one or more, each step once"),
        ([], r"splits=\[\] is not allowed"),
    ],
)
def test_a_split_without_a_checkpoint_is_refused(splits: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_steps(TRUNK, Store("nowhere"), splits, 5)


def test_epochs_are_the_checkpoints_there(cifar: RunSpec) -> None:
    # A fifth of 352 updates is no whole number: early checkpoints lie at multiples of 70.
    assert split_steps(cifar, Store("nowhere"), None, 5, [4, 1, 0.8, 0.2, 0, 0.4, 0.6]) == (*INNER, EPOCH, 4 * EPOCH)
    assert split_steps(cifar, Store("nowhere"), None, 5, [140 / EPOCH]) == (140,)


def test_where_an_update_is_an_epoch_epochs_are_steps() -> None:
    whole = dataclasses.replace(TRUNK, batch_size=None)
    assert split_steps(whole, Store("nowhere"), None, 5, [0, 20.0]) == (0, 20)


@pytest.mark.parametrize(
    ("epoch", "named"),
    [
        (0.25, r"0\.198864 \(step 70\) and 0\.397727 \(step 140\)"),
        (1.5, r"1 \(step 352\) and 2 \(step 704\)"),
        (164, r"162 \(step 57024\) and 163 \(step 57376\)"),
        (float("nan"), "step"),
    ],
)
def test_an_epoch_without_a_checkpoint_is_refused_with_the_nearest(cifar: RunSpec, epoch: float, named: str) -> None:
    with pytest.raises(ValueError, match=rf"split_epochs={epoch} is not allowed: expected .*nearest: .*{named}"):
        split_steps(cifar, Store("nowhere"), None, 5, [0, epoch])


def test_epochs_that_are_one_step_and_steps_beside_epochs_are_refused(cifar: RunSpec) -> None:
    with pytest.raises(ValueError, match=r"split_epochs=\[0.2, 0.199\] is not allowed: .*each step once"):
        split_steps(cifar, Store("nowhere"), None, 5, [0.2, 0.199])
    with pytest.raises(
        ValueError, match=r"split_epochs=\[1\] is not allowed: expected none together with splits=\[352\]"
    ):
        split_steps(cifar, Store("nowhere"), [352], 5, [1])


def test_tickets_rewind_to_a_step_an_epoch_or_the_first_after_one(cifar: RunSpec) -> None:
    assert rewind_step(cifar, Store("nowhere"), None, None) == EPOCH
    assert rewind_step(cifar, Store("nowhere"), None, 5) == 5 * EPOCH == 1760  # METHOD 2.3
    assert rewind_step(cifar, Store("nowhere"), 210, None) == 210
    with pytest.raises(ValueError, match=r"rewind_epoch=0.5 is not allowed: .*\(step 140\) and .*\(step 210\)"):
        rewind_step(cifar, Store("nowhere"), None, 0.5)
    with pytest.raises(ValueError, match="rewind=13 is not allowed"):
        rewind_step(cifar, Store("nowhere"), 13, None)
    with pytest.raises(
        ValueError, match=r"rewind_epoch=\[1\] is not allowed: expected none together with rewind=\[352\]"
    ):
        rewind_step(cifar, Store("nowhere"), 352, 1)
