"""Learning-rate factors by hand, and checkpoint steps against the table of METHOD 0.2."""

import pytest
import torch

from specdyn.models.experiments.base import get_experiment
from specdyn.models.nets.mlp import Mlp
from specdyn.models.spec.run_spec import RunSpec, from_settings
from specdyn.models.spec.schedules import (
    batches_per_epoch,
    batches_per_step,
    checkpoint_steps,
    learning_rate_factor,
    steps_per_epoch,
    weight_decay_at,
)


def spec(steps: int, **settings: object) -> RunSpec:
    return from_settings(experiment="any", net=Mlp(), data=Mlp(), steps=steps, **settings)


@pytest.mark.parametrize(("step", "factor"), [(0, 0.0), (1, 0.1), (5, 0.5), (9, 0.9), (10, 1.0), (11, 1.0), (99, 1.0)])
def test_warmup_rises_from_zero_by_step(step: int, factor: float) -> None:
    run = spec(100, schedule="warmup", warmup=10)
    assert learning_rate_factor(run, step, steps_per_epoch=7) == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize(
    ("epoch", "factor"),
    [
        (0, 0.0),
        (1, 0.5),
        (2, 0.1),  # t = w: the published schedule falls to its floor here
        (3, 0.45 * (0.9510565162951535 + 1) + 0.1),  # cos 18 degrees
        (7, 0.55),  # cos 90 degrees
        (9, 0.45 * (1 - 0.5877852522924731) + 0.1),  # cos 126 degrees
        (10, 0.1),
        (12, 0.1),
    ],
)
def test_cosine_follows_the_published_formula_by_epoch(epoch: int, factor: float) -> None:
    run = spec(30, schedule="cosine", warmup=2)  # 10 epochs of 3 steps
    for step in (3 * epoch, 3 * epoch + 2):
        assert learning_rate_factor(run, step, steps_per_epoch=3) == pytest.approx(factor, rel=1e-12)


def test_cosine_counts_a_partial_last_epoch() -> None:
    run = spec(28, schedule="cosine", warmup=2)  # 9 1/3 epochs of 3 steps: T = 10
    assert learning_rate_factor(run, 21, steps_per_epoch=3) == pytest.approx(0.55, rel=1e-12)


@pytest.mark.parametrize(
    ("epoch", "factor"),
    [(0, 1.0), (9_999, 1.0), (10_000, 0.1), (19_999, 0.1), (20_000, 0.01), (29_999, 0.01), (30_000, 0.001)],
)
def test_step_drops_by_ten_at_three_epochs(epoch: int, factor: float) -> None:
    run = spec(10, schedule="step")
    assert learning_rate_factor(run, 2 * epoch + 1, steps_per_epoch=2) == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize(
    ("epoch", "factor"),
    [(0, 1.0), (81, 1.0), (82, 0.1), (122, 0.1), (123, 0.01), (159, 0.01), (160, 0.001), (163, 0.001)],
)
def test_milestones_divide_by_ten_at_the_published_epochs(epoch: int, factor: float) -> None:
    run = spec(57_728, schedule="milestones", milestones=(82, 123, 160))
    for step in (352 * epoch, 352 * epoch + 351):
        assert learning_rate_factor(run, step, steps_per_epoch=352) == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize(
    ("epoch", "factor"), [(0, 1.0), (10, 0.9045084971874737), (25, 0.5), (40, 0.0954915028125263), (50, 0.0)]
)
def test_cosine_to_zero_reaches_it_at_the_end(epoch: int, factor: float) -> None:
    run = spec(44_600, schedule="cosine-to-zero")  # 50 epochs of 892 steps
    for step in (892 * epoch, 892 * epoch + 891):
        assert learning_rate_factor(run, step, steps_per_epoch=892) == pytest.approx(factor, rel=1e-12, abs=1e-15)


def test_cosine_to_zero_is_torchs() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7)
    run = spec(21, schedule="cosine-to-zero")
    for epoch in range(7):
        assert learning_rate_factor(run, 3 * epoch, 3) == pytest.approx(torchs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        torchs.step()


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.0),
        (1, 0.005),
        (199, 0.995),
        (200, 0.1),  # t = w: the published schedule falls to its floor for one step
        (201, 0.45 * (0.9999998887 + 1) + 0.1),
        (200 + 2220, 0.775),  # cos 60 degrees
        (200 + 3330, 0.55),  # cos 90 degrees
        (6660, 0.1),
        (7000, 0.1),
    ],
)
def test_warmup_cosine_follows_the_published_formula_by_step(step: int, factor: float) -> None:
    run = spec(2225, schedule="warmup-cosine", warmup=200, period=6660)
    assert learning_rate_factor(run, step, steps_per_epoch=222) == pytest.approx(factor, rel=1e-9)


def test_the_published_language_model_ends_at_four_fifths_of_its_learning_rate() -> None:
    run = spec(2225, schedule="warmup-cosine", warmup=200, period=6660)
    assert round(learning_rate_factor(run, 2224, steps_per_epoch=222), 2) == 0.81


@pytest.mark.parametrize(
    ("start", "until", "decaying"),
    [
        (0, None, "xxxxxx"),
        (2, None, "..xxxx"),
        (0, 3, "xxx..."),
        (2, 4, "..xx.."),
        (5, None, ".....x"),
        (5, 6, ".....x"),
    ],
)
def test_weight_decay_is_on_between_two_steps(start: int, until: int | None, decaying: str) -> None:
    run = spec(6, weight_decay=0.5, decay_from=start, decay_until=until)
    assert [weight_decay_at(run, step) for step in range(6)] == [0.5 if on == "x" else 0.0 for on in decaying]


@pytest.mark.parametrize(
    ("batch", "accumulate", "examples", "batches", "per_step", "per_epoch"),
    [
        (128, 1, 45_000, 352, 1, 352),
        (4, 64, 57_000, 14_250, 64, 222),  # METHOD 0.2: the window that 42 batches begin is left out
        (4, 64, 256, 64, 64, 1),
        (4, 64, 100, 25, 25, 1),  # fewer batches than a window
        (None, 8, 100, 1, 1, 1),
        (10, 3, 95, 10, 3, 3),
    ],
)
def test_an_epoch_is_a_whole_number_of_updates(
    batch: int | None, accumulate: int, examples: int, batches: int, per_step: int, per_epoch: int
) -> None:
    run = spec(1, batch_size=batch, accumulate=accumulate)
    found = (batches_per_epoch(run, examples), batches_per_step(run, examples), steps_per_epoch(run, examples))
    assert found == (batches, per_step, per_epoch)


def test_constant_is_one() -> None:
    assert {learning_rate_factor(spec(10), step, 3) for step in range(12)} == {1.0}


@pytest.mark.parametrize(
    ("preset", "examples", "count", "last"),
    [("paper", 3830, 401, 40_000), ("data-rich", 11_492, 401, 40_000), ("slingshot", 6586, 1001, 100_000)],
)
def test_modular_addition_keeps_the_published_checkpoints(preset: str, examples: int, count: int, last: int) -> None:
    run = get_experiment("modular_addition").preset(preset).spec
    steps = checkpoint_steps(run, steps_per_epoch(run, examples))
    assert steps == tuple(range(0, last + 1, 100))
    assert len(steps) == count


@pytest.mark.parametrize(
    ("per_epoch", "epochs", "inner", "count", "total"),
    [
        (352, 164, (70, 140, 210, 280), 169, 57_728),
        (352, 300, (70, 140, 210, 280), 305, 105_600),
        (422, 100, (84, 168, 252, 336), 105, 42_200),
        (892, 50, (178, 356, 534, 712), 55, 44_600),
        (222, 10, (44, 88, 132, 176), 15, 2_220),
    ],
    ids=["VGG", "MLP on CIFAR-10", "UNet", "BiLSTM", "language model"],
)
def test_tasks_with_epochs_keep_the_published_checkpoints(
    per_epoch: int, epochs: int, inner: tuple[int, ...], count: int, total: int
) -> None:
    run = spec(per_epoch * epochs, checkpoint_every=per_epoch, early_checkpoints=4)
    steps = checkpoint_steps(run, per_epoch)
    assert steps[:6] == (0, *inner, per_epoch)
    assert (len(steps), steps[-1]) == (count, total)
    assert all(step % per_epoch == 0 for step in steps[5:])


@pytest.mark.parametrize(
    ("total", "every", "early", "per_epoch", "steps"),
    [
        (10, 4, 0, 1, (0, 4, 8, 10)),  # the last step is kept though no multiple
        (3, 100, 0, 1, (0, 3)),
        (8, 4, 4, 4, (0, 4, 8)),  # four steps are too few for four checkpoints inside
        (8, 4, 3, 4, (0, 1, 2, 3, 4, 8)),
        (2, 1, 3, 8, (0, 1, 2)),  # a run shorter than its first epoch
        (5, 5, 1, 5, (0, 2, 5)),
    ],
)
def test_checkpoints_of_short_runs(total: int, every: int, early: int, per_epoch: int, steps: tuple[int, ...]) -> None:
    assert checkpoint_steps(spec(total, checkpoint_every=every, early_checkpoints=early), per_epoch) == steps
