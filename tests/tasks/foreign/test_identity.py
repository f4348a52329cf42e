"""What decides the results of other programs' checkpoints: their content and how the layers are looked at."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from specdyn.storage.foreign import content
from specdyn.storage.foreign.content import GONE, content_digests, refreshed
from specdyn.storage.foreign.find import find_checkpoints
from specdyn.storage.places import Store
from specdyn.tasks.foreign.names import TRANSPOSED
from specdyn.tasks.foreign.network.layout import Look
from specdyn.tasks.foreign.series import series_contents
from specdyn.tasks.plan.sources import look


def save(folder: Path, step: int, factor: float = 1.0) -> Path:
    draw = torch.Generator().manual_seed(step)
    weights = {
        "attn.in_proj_weight": torch.randn(24, 8, generator=draw) * factor,
        "up.weight": torch.randn(8, 16, 2, 2, generator=draw),
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"step={step}.safetensors"
    save_file(weights, path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (0, 10):
        save(tmp_path / "series", step)
    return tmp_path / "series"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read for their digest."""
    names: list[str] = []
    real = content._sha256

    def noting(path: str) -> str:
        names.append(Path(path).name)
        return real(path)

    monkeypatch.setattr(content, "_sha256", noting)
    return names


def identity(folder: Path, store: Store, heads: int = 0, transposed: str = TRANSPOSED) -> str:
    source = look(str(folder), how=Look(heads=heads, transposed=transposed))
    return series_contents(source.series, source.place, store).results


def test_other_options_are_other_results_and_names_of_the_same_layers_are_not(folder: Path, local_store: Store) -> None:
    plain = identity(folder, local_store)
    assert identity(folder, local_store) == plain
    assert identity(folder, local_store, transposed=r"^up\.") != plain
    assert identity(folder, local_store, heads=2) not in (plain, identity(folder, local_store, heads=4))
    assert identity(folder, local_store, transposed="no such name") == plain


def overwritten_with_its_time_set_back(folder: Path) -> None:
    path = folder / "step=10.safetensors"
    before = path.stat()
    save(folder, 10, factor=2.0)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def replaced(folder: Path) -> None:
    os.replace(save(folder.parent / "new", 10, factor=2.0), folder / "step=10.safetensors")


@pytest.mark.parametrize("change", [overwritten_with_its_time_set_back, replaced])
def test_other_content_of_the_same_length_is_another_result(
    change: Callable[[Path], None], folder: Path, local_store: Store, read: list[str]
) -> None:
    before = identity(folder, local_store)
    assert read == ["step=0.safetensors", "step=10.safetensors"]
    change(folder)
    after = identity(folder, local_store)
    assert after != before
    assert read[2:] == ["step=10.safetensors"], "the other file is known"
    save(folder, 10)
    assert identity(folder, local_store) == before


def test_the_same_content_is_the_same_result_whatever_its_times(
    folder: Path, local_store: Store, read: list[str]
) -> None:
    before = identity(folder, local_store)
    (folder / "step=0.safetensors").touch()
    assert identity(folder, local_store) == before
    assert read[2:] == ["step=0.safetensors"]
    identity(folder, local_store)
    assert len(read) == 3, "what was read is known from then on"


def test_more_checkpoints_are_another_result(folder: Path, local_store: Store) -> None:
    before = identity(folder, local_store)
    save(folder, 20)
    assert identity(folder, local_store) != before


def test_a_damaged_record_is_made_again(folder: Path, local_store: Store) -> None:
    before = identity(folder, local_store)
    (record,) = Path(local_store.url).rglob("*.json")
    for text in ("{", "[]", '{"checkpoints": {"step=0.safetensors": 3}}'):
        record.write_text(text)
        assert identity(folder, local_store) == before


def test_what_changed_since_the_series_was_found_is_seen(folder: Path, local_store: Store) -> None:
    found = find_checkpoints(str(folder))
    before = content_digests(found, local_store)
    assert refreshed(found) == found
    save(folder, 10, factor=3.0)
    assert [one == two for one, two in zip(content_digests(refreshed(found), local_store), before, strict=True)] == [
        True,
        False,
    ]
    (folder / "step=0.safetensors").unlink()
    assert content_digests(refreshed(found), local_store)[0] == GONE
    single = find_checkpoints(str(folder / "step=10.safetensors"))
    assert refreshed(single) == single
