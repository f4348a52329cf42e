"""The summary table against values derived by hand, on a cube labelled as real ones are."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from specdyn.storage.schema import RUNS_GROUP
from specdyn.tasks.figures.summary import (
    SUMMARY,
    Row,
    computed_on,
    headings,
    markdown_table,
    read_summary,
    run_facts,
    summary_markdown,
    summary_of,
    sweep_table,
    write_summary,
)

NAN = float("nan")
STRING = np.dtypes.StringDType()
"""What zarr gives for labels; it does not behave as numpy's other strings in every call."""


def cube() -> xr.DataTree:
    """Three runs out of order, with the facts of each; of `c` the step at which it groks is not known."""
    runs = {
        "run": np.array(["a", "b", "c"], STRING),
        "weight_decay": ("run", [1.0, 0.0, 1.0]),
        "seed": ("run", [1, 0, 0]),
        "split": np.array(["val", "train"], STRING),
    }
    metrics = xr.Dataset(
        {
            "final_err": (("run", "split"), np.array([[0.06, 0.0], [0.5, 0.25], [0.0, 0.0]], np.float32)),
            "grok_step": ("run", [20, NAN, NAN]),
            "grok_censored": ("run", [0, 1, NAN]),
            "initial_effective_rank": ("run", [0.9, 0.9, 0.6]),
            "final_effective_rank": ("run", [0.5, 0.75, 0.75]),
            "final_collapsed_layers": ("run", [0, 0, 1]),
        },
        runs,
    )
    return xr.DataTree.from_dict({"/metrics": metrics})


def test_rows_are_sorted_and_hold_what_the_runs_ended_at() -> None:
    b, c, a = sweep_table(cube())
    assert [(row.run_id, row.weight_decay, row.seed) for row in (b, c, a)] == [
        ("b", 0.0, 0),
        ("c", 1.0, 0),
        ("a", 1.0, 1),
    ]
    assert [row.train for row in (b, c, a)] == pytest.approx([0.25, 0.0, 0.0])
    assert [row.val for row in (b, c, a)] == pytest.approx([0.5, 0.0, 0.06])
    assert [row.grok_step for row in (b, c, a)] == [None, None, 20]
    assert [row.rank_start for row in (b, c, a)] == pytest.approx([0.9, 0.6, 0.9])
    assert [row.rank_end for row in (b, c, a)] == pytest.approx([0.75, 0.75, 0.5])
    assert [row.collapsed for row in (b, c, a)] == [0, 1, 0]


def test_facts_are_along_the_runs_of_the_cube_and_nan_where_it_says_nothing() -> None:
    facts = run_facts(cube())
    assert facts["run"].values.tolist() == ["a", "b", "c"]
    assert facts["grok_step"].values == pytest.approx([20, NAN, NAN], nan_ok=True)
    assert facts["val"].values == pytest.approx([0.06, 0.5, 0.0])
    tree = cube()
    tree["metrics"] = tree["metrics"].to_dataset().drop_vars("grok_step").isel(split=[0])
    facts = run_facts(tree)
    assert facts["grok_step"].isnull().all() and facts["train"].isnull().all()
    assert facts["val"].values == pytest.approx([0.06, 0.5, 0.0])


def test_a_setting_may_have_the_name_of_a_column() -> None:
    tree = cube()
    tree["metrics"] = tree["metrics"].to_dataset().assign_coords(train=("run", [7.0, 8.0, 9.0]))
    rows = sweep_table(tree)
    assert [(row.run_id, row.train, row.others["train"]) for row in rows] == [
        ("b", 0.25, "8"),
        ("a", 0.0, "7"),
        ("c", 0.0, "9"),
    ]


@pytest.mark.parametrize(
    ("missing", "field"),
    [("final_err", "val"), ("final_effective_rank", "rank_end"), ("initial_effective_rank", "rank_start")],
)
def test_a_missing_fact_is_no_number(missing: str, field: str) -> None:
    tree = cube()
    tree["metrics"] = xr.DataTree(tree["metrics"].to_dataset().drop_vars(missing))
    rows = sweep_table(tree)
    assert [row.run_id for row in rows] == ["b", "c", "a"]
    assert all(math.isnan(getattr(row, field)) for row in rows)


ROW = Row(run_id="abc", weight_decay=0.3, seed=2, train=0.0, val=0.982, grok_step=None, rank_start=0.9, rank_end=0.5)


@pytest.mark.parametrize(
    ("changes", "groks"),
    [({}, "never"), ({"grok_step": 1250, "val": 0.01}, "1250"), ({"val": NAN}, "-")],
)
def test_a_run_that_never_groks_differs_from_one_that_was_not_measured(changes: dict[str, float], groks: str) -> None:
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
    tree["metrics"] = xr.DataTree(tree["metrics"].to_dataset().rename(final_err=f"final_{metric}"))
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
        runs = next(iter(tree.children.values())).to_dataset()[["run"]]
        tree[RUNS_GROUP] = runs.assign(computed_on=("run", np.array(machines, STRING)))
    assert computed_on(tree) == said
    table = markdown_table(sweep_table(tree))
    assert summary_markdown(tree) == (f"{table}\n\nComputed on {said}." if said else table)
    assert "computed" not in table


def test_a_summary_is_read_as_it_was_written(tmp_path: Path) -> None:
    tree = cube()
    tree.attrs["contents"] = "what it holds"
    url, written = str(tmp_path / SUMMARY), summary_of(tree)
    write_summary(url, written)
    found = read_summary(url)
    assert found is not None
    assert (found.contents, found.computed_on) == ("what it holds", "")
    assert [row.cells for row in found.rows] == [row.cells for row in sweep_table(tree)]
    assert [row.run_id for row in found.rows] == ["b", "c", "a"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"rows": [], "computed_on": ""}', '{"rows": [{"run": "a"}]}', "7"]
)
def test_what_is_no_summary_is_passed_over(text: str, tmp_path: Path) -> None:
    assert read_summary(str(tmp_path / "none")) is None
    (tmp_path / SUMMARY).write_text(text)
    assert read_summary(str(tmp_path / SUMMARY)) is None
