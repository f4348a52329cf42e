"""The tutorials, followed from their first line to their last on the smoke presets."""

from pathlib import Path

import pytest

from helpers.snippets import ROOT, follow
from specdyn.models.experiments.base import experiment_names

pytestmark = [pytest.mark.integration, pytest.mark.scenario, pytest.mark.usefixtures("prefect_server")]

TUTORIALS = sorted(
    str(page.relative_to(ROOT)) for page in (ROOT / "docs" / "tutorials").glob("*.md") if page.stem != "index"
)


def test_every_experiment_has_a_tutorial() -> None:
    assert sorted(Path(page).stem for page in TUTORIALS) == experiment_names()


@pytest.mark.parametrize("page", TUTORIALS)
def test_a_tutorial_can_be_followed(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    follow(page)
