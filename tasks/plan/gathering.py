"""From what is measured of a study to its cube and its report; done by one process."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from specdyn.storage import generations
from specdyn.storage.access import objects
from specdyn.storage.access.lease import Lease
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.tasks.plan.plan import Results, Study
from specdyn.tasks.spectra.analysis import analysis_names, get_analysis
from specdyn.tasks.spectra.labels import FACTS_VERSION

if TYPE_CHECKING:
    from specdyn.storage.members import Member
    from specdyn.storage.schema import Variable


def finished_results(study: Study, store: Store, report: bool) -> Results | None:
    """The cube where the store has all that a call asks for, so that it starts and writes nothing, nor waits.

    Only reads. None where something failed, too.
    """
    try:
        if not study.recorded(store):
            return None
    except StoreError:  # a record that cannot be read is written again
        return None
    results = study.results(store)
    if not results.complete or stored_contents(results.url) != results.contents:
        return None
    return results if not report or drawn(results) else None


def gather(study: Study, store: Store, report: bool, lease: Lease | None = None) -> tuple[Results, bool]:
    """Write the cube unless it holds what it should already, and draw the report unless it is of that.

    Returns the cube and whether it was written. Where a call died between the cube and its report only this is drawn.
    """
    results = study.results(store)
    if not results.measured:
        return results, False
    if built := stored_contents(results.url) != results.contents:
        results.write(lease)
    if report and not drawn(results):
        results.draw()
        objects.write(results.note, json.dumps({"contents": results.contents}).encode())
    return results, built


def drawn(results: Results) -> bool:
    """Whether the report is there, and was drawn of what the cube should hold."""
    return all(map(objects.exists, results.report)) and _noted(results.note) == results.contents


def _noted(url: str) -> str | None:
    """The contents that something was drawn from, as an object says; None where there is none that does."""
    try:
        return str(json.loads(objects.read(url))["contents"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def stored_contents(url: str) -> str | None:
    """What decides the values of the cube at a place, as it says; None where there is none."""
    contents = generations.attributes(url).get("contents")
    return None if contents is None else str(contents)


def contents_of(results: Sequence[str], analyses: Sequence[str]) -> str:
    """What decides a cube's values: the results of its runs, by ids that say what they are of, and all versions."""
    versions = {name: get_analysis(name).version for name in analyses}
    return json.dumps({"runs": list(results), "analyses": versions, "facts": FACTS_VERSION}, sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsCube(ABC):
    """The cube of runs of any origin, and its report, which is a page with figures."""

    name: str
    store: Store
    complete: bool
    """Whether all that is asked for is measured."""

    @property
    def url(self) -> str:
        """Where the cube lies."""
        return self.store.cube(self.name)

    @property
    def note(self) -> str:
        """Where it is noted of which contents the report was drawn."""
        return f"{self.store.report(self.name)}/drawn.json"

    @property
    def report(self) -> tuple[str, ...]:
        """The page of the report."""
        return (f"{self.store.report(self.name)}/index.html",)

    @property
    @abstractmethod
    def contents(self) -> str:
        """What decides all that it holds."""

    @abstractmethod
    def members(self) -> Sequence["Member"]:
        """The runs in it."""

    @abstractmethod
    def attributes(self) -> Mapping[str, Any]:
        """What it says of itself."""

    def write(self, lease: Lease | None) -> None:
        """Write the cube."""
        from specdyn.storage.cube import write_cube
        from specdyn.tasks.spectra.facts import facts_of

        attributes = {**self.attributes(), "contents": self.contents}
        write_cube(self.url, self.members(), attributes, declared(), facts_of, lease)

    def draw(self) -> None:
        """Draw the report."""
        from specdyn.tasks.figures.report import write_report

        write_report(self.url, self.store.report(self.name))


def declared() -> dict[str, "Variable"]:
    """Every variable that has one name, by it."""
    every = (get_analysis(name).variables for name in analysis_names())
    return {name: variable for variables in every for name, variable in variables.items() if "{" not in name}
