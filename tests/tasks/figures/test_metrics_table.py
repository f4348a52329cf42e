"""The committed table of metrics is what the declarations give, and names every one of them."""

import math
from pathlib import Path

import pytest

from specdyn.storage.schema import Variable
from specdyn.tasks.figures.metrics_table import row, section, table
from specdyn.tasks.spectra.analysis import Analysis, analysis_names, get_analysis

COMMITTED = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_the_committed_table_is_current() -> None:
    assert COMMITTED.read_text() == table(), "run: python -m specdyn.tasks.figures.metrics_table > docs/metrics.md"


def test_every_variable_has_one_row_with_a_formula() -> None:
    lines = table().splitlines()
    for name in analysis_names():
        assert f"## {name}" in lines
        for variable, declared in get_analysis(name).variables.items():
            rows = [line for line in lines if line.startswith(f"| `{variable}` |")]
            assert len(rows) == 1, f"{variable} is declared {len(rows)} times"
            assert declared.about, f"{variable} says no formula"


def test_no_cell_ends_before_its_end() -> None:
    for line in table().splitlines():
        if line.startswith("| "):
            assert line.replace("\\|", "").count("|") == 6


def test_a_row_has_meaning_formula_dimensions_units_and_flags() -> None:
    plain = Variable(dims=("layer", "step"), long_name="a length", units="m", about="|<u_i, v'_j>|, a * b; METHOD 5")
    assert row("x", plain) == r"| `x` | a length | \|\<u_i, v'\_j>\|, a \* b; METHOD 5 | layer, step | m |"
    flagged = Variable(
        dims=("layer",), long_name="state", dtype="int8", flags=("missing", "fine"), about="fine if s > 0"
    )
    assert row("y", flagged) == "| `y` | state | fine if s > 0 (0 missing, 1 fine) | layer | 1 |"


@pytest.mark.parametrize("default", [True, False])
def test_a_section_begins_with_what_the_module_says(default: bool) -> None:
    variables = {"x": Variable(dims=("step",), long_name="x", about="x")}
    analysis = Analysis(
        name="shape",
        version=1,
        of="checkpoint",
        variables=variables,
        compute=lambda view: {"x": math.pi},
        default=default,
    )
    found = section(analysis).splitlines()
    assert found[0] == "## shape"
    assert found[2].startswith("Shape of every layer's spectrum")
    assert found[2].endswith("Runs on request.") != default
