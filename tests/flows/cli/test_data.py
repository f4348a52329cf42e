"""`specdyn data`: what it lists, what it puts into a store, what it refuses."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from specdyn.flows.cli.app import app
from specdyn.models.datasets.base import dataset_names


def said(*arguments: str, code: int = 0) -> str:
    """All that the command prints, on one line."""
    result = CliRunner().invoke(app, ["data", *arguments], env={"COLUMNS": "250"})
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_a_sample_is_listed_as_prepared_once_it_is(tmp_path: Path) -> None:
    listed = said("list", "--store", str(tmp_path))
    assert all(name in listed for name in dataset_names())
    assert " prepared" not in listed
    output = said("prepare", "photos", "--variant", "sample", "--store", str(tmp_path))
    assert "image uint8 2500 x 3 x 32 x 32" in output
    assert str(tmp_path / "data") in output
    assert said("list", "--store", str(tmp_path)).count(" prepared") == 1


def test_fetching_a_sample_copies_the_files_of_the_package() -> None:
    output = said("fetch", "librispeech", "--variant", "sample")
    assert [Path(path).name for path in output.split()] == ["train.npz", "validation.npz"]
    assert all(Path(path).is_file() for path in output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "imagenet"], "unknown data set 'imagenet': known are cifar10"),
        (["prepare", "photos"], "data set 'photos' has no variant 'full': known are sample; 'full' have: cifar10"),
    ],
)
def test_a_data_set_that_is_not_known_is_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    assert message in said(*arguments, "--store", str(tmp_path / "store"), code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_set_that_cannot_be_fetched_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECDYN_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    output = said("prepare", "cifar10", "--store", str(tmp_path / "store"), code=2)
    assert "cifar-10-binary.tar.gz (170,052,171 bytes) cannot be fetched" in output
    assert "put the file at" in output


def test_a_sweep_on_a_set_that_is_not_there_names_the_command(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["run", "image_classification", "--preset", "paper", "--store", str(tmp_path)], env={"COLUMNS": "250"}
    )
    assert result.exit_code == 2
    assert f"run `specdyn data prepare cifar10 --variant full --store {tmp_path}`" in " ".join(result.output.split())
