"""The summary table against values derived by hand, on a cube labelled as real ones are."""

import dataclasses
import math

import numpy as np
import pytest
import xarray as xr

from storage.schema import PROVENANCE
from tasks.summary import Row, computed_on, grok_steps, headings, markdown_table, summary_markdown, sweep_table

NAN = float("nan")
STRING = np.dtypes.StringDType()
"""What zarr gives for labels; it does not behave as numpy's other strings in every call."""


def cube() -> xr.DataTree:
    """Three runs out of order; `b` lacks its last step, `c` its first."""
    runs = {
        "run": np.array(["a", "b", "c"], STRING),
        "weight_decay": ("run", [1.0, 0.0, 1.0]),
        "seed": ("run", [1, 0, 0]),
        "step": [0, 10, 20, 30],
    }
    err = [
        [[0.9, 0.2, 0.1, 0.0], [0.9, 0.05, 0.04, 0.06]],
        [[0.8, 0.3, 0.25, NAN], [0.8, 0.7, 0.5, NAN]],
        [[NAN, 0.1, 0.0, 0.0], [NAN, 0.01, 0.0, 0.0]],
    ]
    rank = [
        [[0.8, 0.6, 0.5, 0.4], [1.0, 0.8, 0.7, 0.6]],
        [[0.8, 0.8, 0.8, NAN], [1.0, 0.9, 0.7, NAN]],
        [[NAN, 0.5, 0.5, 0.5], [NAN, 0.7, 0.6, 1.0]],
    ]
    collapse = np.ones((3, 2, 4), np.int8)
    collapse[1, :, 3] = 0
    collapse[2, 1, 3] = 2
    metrics = xr.Dataset(
        {"err": (("run", "split", "step"), np.array(err, np.float32))},
        {**runs, "split": np.array(["train", "val"], STRING)},
    )
    layers = xr.Dataset(
        {
            "effective_rank": (("run", "layer", "step"), np.array(rank, np.float32)),
            "collapse": (("run", "layer", "step"), collapse),
        },
        {**runs, "layer": np.array(["in.weight", "out.weight"], STRING)},
    )
    return xr.DataTree.from_dict({"/metrics": metrics, "/layers": layers})


def test_rows_are_sorted_and_hold_what_the_runs_ended_at() -> None:
    b, c, a = sweep_table(cube())
    assert [(row.run_id, row.weight_decay, row.seed) for row in (b, c, a)] == [
        ("b", 0.0, 0),
        ("c", 1.0, 0),
        ("a", 1.0, 1),
    ]
    assert [row.train for row in (b, c, a)] == pytest.approx([0.25, 0.0, 0.0])
    assert [row.val for row in (b, c, a)] == pytest.approx([0.5, 0.0, 0.06])
    # .05 is not below .05, and a run that rose again has grokked all the same.
    assert [row.grok_step for row in (b, c, a)] == [None, 10, 20]
    assert [row.rank_start for row in (b, c, a)] == pytest.approx([0.9, 0.6, 0.9])
    assert [row.rank_end for row in (b, c, a)] == pytest.approx([0.75, 0.75, 0.5])
    assert [row.collapsed for row in (b, c, a)] == [0, 1, 0]


def test_grok_steps_leave_out_runs_that_never_do() -> None:
    assert grok_steps(cube()) == {"a": 20, "c": 10}


@pytest.mark.parametrize(("missing", "field"), [("metrics", "val"), ("layers", "rank_end")])
def test_a_group_that_is_missing_gives_no_numbers(missing: str, field: str) -> None:
    tree = cube()
    del tree[missing]
    rows = sweep_table(tree)
    assert [row.run_id for row in rows] == ["b", "c", "a"]
    assert all(math.isnan(getattr(row, field)) for row in rows)


ROW = Row(run_id="abc", weight_decay=0.3, seed=2, train=0.0, val=0.982, grok_step=None, rank_start=0.9, rank_end=0.5)


@pytest.mark.parametrize(
    ("changes", "groks"),
    [({}, "never"), ({"grok_step": 1250, "val": 0.01}, "1250"), ({"val": NAN}, "-")],
)
def test_a_run_that_never_groks_is_told_from_one_that_was_not_measured(changes: dict[str, float], groks: str) -> None:
    cells = dict(zip(headings([ROW]), dataclasses.replace(ROW, **changes).cells, strict=True))
    assert cells["groks at step"] == groks


def test_the_table_is_markdown_with_a_cell_for_each_heading() -> None:
    lines = markdown_table([ROW, dataclasses.replace(ROW, collapsed=2)]).splitlines()
    assert [line.count("|") for line in lines] == [len(headings([ROW])) + 1] * 4
    assert lines[0] == f"| {' | '.join(headings([ROW]))} |"
    assert lines[2] == "| 0.3 | 2 | abc | 0.0 | 98.2 | never | 0.900 | 0.500 |"
    assert lines[3].endswith("| 0.500 (2 collapsed) |")


@pytest.mark.parametrize(("metric", "shown"), [("cer", "CER (%)"), ("loss", "loss")])
def test_a_sweep_without_an_error_rate_shows_what_it_has(metric: str, shown: str) -> None:
    tree = cube()
    tree["metrics"] = xr.DataTree(tree["metrics"].to_dataset().rename(err=metric))
    row = sweep_table(tree)[0]
    cells = dict(zip(headings([row]), row.cells, strict=True))
    scale = 100 if metric == "cer" else 1
    assert float(cells[f"val {shown}"]) == pytest.approx(0.5 * scale)
    assert "groks at step" not in cells and row.grok_step is None


@pytest.mark.parametrize(
    ("machines", "said"),
    [
        (["A, 1 thread"] * 3, "A, 1 thread"),
        (["B, 2 threads", "A, 1 thread", "B, 2 threads"], "A, 1 thread (1 run); B, 2 threads (2 runs)"),
        (None, ""),
    ],
)
def test_the_summary_says_what_the_runs_were_computed_on(machines: list[str] | None, said: str) -> None:
    tree = cube()
    if machines:
        for group in ("metrics", "layers"):
            data = tree[group].to_dataset()
            tree[group] = data.assign_coords(computed_on=("run", np.array(machines, STRING), {"role": PROVENANCE}))
    assert computed_on(tree) == said
    table = markdown_table(sweep_table(tree))
    assert summary_markdown(tree) == (f"{table}\n\nComputed on {said}." if said else table)
    assert "computed" not in table
