"""What `import specdyn` offers, and what it imports; tests/test_snippets.py runs the examples of docs/library.md."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import specdyn

OFFERED = [
    "Recorder",
    "above_chance",
    "advice",
    "analyse",
    "by_depth",
    "claims",
    "compare",
    "connect",
    "counterexamples",
    "edge_lead",
    "figure",
    "grid",
    "grok_step",
    "load_net",
    "mean_over",
    "open",
    "predicts_pruning",
    "run",
    "scores",
    "table",
    "timing",
    "to_dataframe",
]


def test_the_surface_is_what_it_was_and_says_what_it_does() -> None:
    assert specdyn.__all__ == OFFERED == sorted(specdyn.OFFERED)
    for name in OFFERED:
        function = getattr(specdyn, name)
        assert len(inspect.getdoc(function) or "") > 80
        assert inspect.signature(function).return_annotation is not inspect.Signature.empty
    with pytest.raises(AttributeError, match="no attribute 'analyze'"):
        specdyn.analyze  # noqa: B018


def imported(program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys; print('\\n'.join(sys.modules), file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split("\n"))


def test_importing_it_imports_nothing_heavy() -> None:
    assert not imported("import specdyn") & {"torch", "numpy", "xarray", "zarr", "ray", "prefect", "rich", "pydantic"}


def test_no_name_imports_anything_that_draws_before_it_is_called() -> None:
    """All in one process, as a process for each takes half a second to import the same."""
    program = f"""
import sys, specdyn
for name in {OFFERED}:
    getattr(specdyn, name)
    heavy = {{"matplotlib", "ray", "prefect"}} & set(sys.modules)
    assert not heavy, f"{{name}} imports {{heavy}}"
"""
    assert "torch" in imported(program)


def test_analysing_little_by_the_command_starts_no_engine(tmp_path: Path) -> None:
    program = f"""
import torch
from safetensors.torch import save_file
save_file({{"up.weight": torch.randn(6, 4)}}, {str(tmp_path / "step=1.safetensors")!r})
from specdyn.flows.cli.app import app
app(["analyse", {str(tmp_path)!r}, "--store", {str(tmp_path / "store")!r}], standalone_mode=False)
"""
    assert not imported(program) & {"ray", "prefect"}
    assert (tmp_path / "store" / "studies").is_dir()
