"""Logged values at the checkpoints of a series: which one counts where, names, splits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specdyn.storage.foreign.logged import Log
from specdyn.tasks.foreign.metrics import Logged, Metrics, logged_at, metrics_of, split_of

NAN = float("nan")


def at(steps: tuple[int, ...], **values: dict[float, float]) -> Logged:
    return logged_at(Log(files=("log",), values=values), steps, "steps")


def one(*labels: str, **values: tuple[float, ...]) -> Metrics:
    steps = tuple(range(len(next(iter(values.values())))))
    (metrics,) = metrics_of([Logged(files=("log",), steps=steps, values=values)], labels)
    return metrics


def test_the_value_at_the_step_or_the_last_one_since_the_checkpoint_before() -> None:
    found = at((0, 100, 200, 300), loss={0: 9.0, 90: 8.0, 100: 7.0, 101: 6.0, 150: 5.0, 199: 4.0, 400: 1.0})
    np.testing.assert_array_equal(found.values["loss"], [9, 7, 4, NAN])
    assert found.told == ("loss: at 3 of 4 checkpoints, 1 of these logged up to 1 step before",)


def test_a_value_of_the_checkpoint_before_is_never_that_of_the_next() -> None:
    found = at((100, 200), loss={100: 7.0})
    np.testing.assert_array_equal(found.values["loss"], [7, NAN])


def test_the_first_checkpoint_looks_back_as_far_as_the_second() -> None:
    np.testing.assert_array_equal(at((1000, 1100), loss={10: 1.0, 1050: 2.0}).values["loss"], [NAN, 2])
    np.testing.assert_array_equal(at((1000, 1100), loss={950: 1.0}).values["loss"], [1, NAN])
    np.testing.assert_array_equal(at((1000,), loss={10: 1.0}).values["loss"], [1])
    np.testing.assert_array_equal(at((0, 10), loss={0: 1.0}).values["loss"], [1, NAN])


def test_nan_in_a_log_is_the_value_and_none_before_it_is_taken() -> None:
    np.testing.assert_array_equal(at((0, 10), loss={5: 1.0, 10: NAN}).values["loss"], [NAN, NAN])


def test_metrics_that_are_alike_are_reported_together() -> None:
    found = at((0, 10), a={0: 1.0, 10: 1.0}, b={0: 1.0, 10: 1.0}, c={7: 1.0})
    assert found.told == (
        "a, b: at 2 of 2 checkpoints",
        "c: at 1 of 2 checkpoints, 1 of these logged up to 3 steps before",
    )


@given(
    st.lists(st.integers(0, 60), min_size=1, unique=True).map(sorted),
    st.dictionaries(st.integers(0, 60), st.floats(-5, 5), max_size=20),
)
def test_it_is_what_a_search_through_all_values_finds(steps: list[int], noted: dict[int, float]) -> None:
    found = at(tuple(steps), loss={float(step): noted[step] for step in sorted(noted)}).values["loss"]
    for i, step in enumerate(steps):
        if i:
            after: float = steps[i - 1]
        else:
            after = steps[0] - (steps[1] - steps[0]) if len(steps) > 1 else -np.inf
        fitting = [place for place in noted if after < place <= step]
        expected = noted[max(fitting)] if fitting else NAN
        np.testing.assert_array_equal(found[i], expected)


@pytest.mark.parametrize(
    ("name", "base", "split"),
    [
        ("loss", "loss", ""),
        ("train_loss", "loss", "train"),
        ("train/loss", "loss", "train"),
        ("training-loss", "loss", "train"),
        ("val_loss", "loss", "val"),
        ("valid_acc", "acc", "val"),
        ("validation/acc", "acc", "val"),
        ("eval_loss", "loss", "val"),
        ("Loss/train", "Loss", "train"),
        ("Loss/validation", "Loss", "val"),
        ("test_loss", "test_loss", ""),
        ("trained", "trained", ""),
        ("value", "value", ""),
        ("evaluations", "evaluations", ""),
    ],
)
def test_prefixes_say_of_which_part_of_the_data_a_metric_is(name: str, base: str, split: str) -> None:
    assert split_of(name) == (base, split)


def test_variables_have_the_splits_of_the_cube() -> None:
    found = one(
        loss=(1, 2), val_loss=(3, 4), acc=(5, 6), eval_acc=(7, 8), lr=(0, 1), learning_rate=(9, 9), test_loss=(0, 0)
    )
    assert {name: variable.dims for name, variable in found.variables.items()} == {
        "loss": ("split", "step"),
        "acc": ("split", "step"),
        "lr": ("step",),
        "learning_rate_at": ("step",),
        "test_loss": ("step",),
    }
    np.testing.assert_array_equal(found.values["loss"], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(found.values["acc"], [[5, 6], [7, 8]])
    np.testing.assert_array_equal(found.values["learning_rate_at"], [9, 9])
    assert found.told == ()
    np.testing.assert_array_equal(one(loss=(1, 2)).values["loss"], [[1, 2], [NAN, NAN]])


def test_names_that_are_taken_are_left_out_and_reported() -> None:
    found = one(
        "width", width=(1,), effective_rank=(1,), final_loss=(1,), step=(1,), err=(1,), **{"a/b-c": (2,), "1": (1,)}
    )
    assert set(found.variables) == {"err", "a_b_c"}
    assert sorted(found.told) == [
        "1 is left out, as '1' is no name",
        "effective_rank is left out, as 'effective_rank' is another part of the results",
        "final_loss is left out, as 'final_loss' is another part of the results",
        "step is left out, as 'step' is another part of the results",
        "width is left out, as 'width' is another part of the results",
    ]


def test_of_two_names_of_one_metric_the_one_with_a_prefix_counts() -> None:
    found = one(loss=(1,), train_loss=(2,), eval_loss=(3,), val_loss=(4,))
    np.testing.assert_array_equal(found.values["loss"], [[2], [4]])
    assert found.told == (
        "eval_loss is left out, as val_loss is the same metric",
        "loss is left out, as train_loss is the same metric",
    )


def test_series_of_one_cube_agree_in_the_dimensions() -> None:
    a = Logged(steps=(0, 5), values={"acc": (1, 2), "lr": (1, 1)})
    b = Logged(steps=(0,), values={"val_acc": (3,)})
    first, second = metrics_of([a, b], ())
    assert first.variables["acc"].dims == second.variables["acc"].dims == ("split", "step")
    np.testing.assert_array_equal(first.values["acc"], [[1, 2], [NAN, NAN]])
    np.testing.assert_array_equal(second.values["acc"], [[NAN], [3]])
    assert first.part != second.part and Metrics().part == ""
    assert first.of((5,)).values["acc"].tolist()[0] == [2] and first.of((5,)).part != first.part


@pytest.mark.parametrize(
    ("files", "where"),
    [("", ()), ("ab", ("a", "b")), ("abc", ("a", "b", "c")), ("abcde", ("a", "b", "c", "and 2 more"))],
)
def test_of_many_files_the_first_are_named_and_the_others_counted(files: str, where: tuple[str, ...]) -> None:
    assert Logged(files=tuple(files)).where == where
