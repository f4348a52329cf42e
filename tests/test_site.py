"""The site's pages: all of them are in its navigation, and those made from declarations name what is declared."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.site.build import ROOT, collect
from docs.site.figures import DOCS, GROUPS
from docs.site.reference import commands
from specdyn import OFFERED
from specdyn.models.experiments.base import experiment_names, get_experiment
from specdyn.models.spec.settings import settings_of
from specdyn.tasks.figures.offered.registry import figure_names
from specdyn.tasks.spectra.analysis import analysis_names, get_analysis

pytestmark = pytest.mark.scenario  # all pages of the site are made

LINK = re.compile(r"\]\(([^)\s#]+)[^)\s]*\)")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    collect(folder)
    return folder


def places(navigation: Any) -> Iterator[str]:
    """Every page that a part of the navigation leads to."""
    if isinstance(navigation, str):
        yield navigation
    else:
        for one in navigation.values() if isinstance(navigation, dict) else navigation:
            yield from places(one)


def test_every_page_is_in_the_navigation_once(pages: Path) -> None:
    project = tomllib.loads((ROOT / "docs/site/zensical.toml").read_text())["project"]
    there = sorted(str(path.relative_to(pages)) for path in pages.rglob("*.md"))
    assert sorted(places(project["nav"])) == there
    assert project["theme"]["font"] is False


def test_links_lead_to_files_of_the_site(pages: Path) -> None:
    for page in pages.rglob("*.md"):
        text = re.sub(r"^```.*?^```|`[^`\n]+`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in LINK.findall(text):
            if not link.startswith(("http://", "https://", "mailto:")):
                assert (page.parent / link).resolve().is_file(), f"{page.name}: {link}"


def test_the_reference_names_what_is_declared(pages: Path) -> None:
    def has(page: str, names: Iterator[str] | list[str]) -> None:
        text = (pages / page).read_text()
        assert [name for name in names if not re.search(rf"(`|^## |heading: ){re.escape(name)}(`|$)", text, re.M)] == []

    has("reference/experiments.md", experiment_names())
    for name in experiment_names():
        presets = get_experiment(name).presets
        has("reference/experiments.md", list(presets))
        for preset in presets.values():
            has("reference/settings.md", list(settings_of(preset.spec)))
    has("reference/analyses.md", analysis_names())
    for name in analysis_names():
        has("reference/analyses.md", list(get_analysis(name).variables))
    has("reference/figures.md", figure_names())
    has("reference/options.md", (f"specdyn {name}" for name, _ in commands()))
    has("api.md", list(OFFERED))


def test_every_picture_has_a_command() -> None:
    made = [picture for group in GROUPS.values() for picture in group.files]
    drawn_by_hand = {"concepts.svg"}
    there = {path.name for path in DOCS.iterdir() if path.suffix in (".png", ".svg")}
    assert sorted(made) == sorted(there - drawn_by_hand)
