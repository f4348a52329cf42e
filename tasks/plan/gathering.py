"""From what is measured of a study to its cube and its report; done by one process."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from specdyn.models.wording import plural
from specdyn.storage import generations
from specdyn.storage.access import objects
from specdyn.storage.access.lease import Lease
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.storage.results import DamagedResult
from specdyn.storage.rows import RUNS, Facts, Row, RowKind
from specdyn.tasks.plan.plan import Results, Study
from specdyn.tasks.spectra.analysis import get_analysis, versions_of
from specdyn.tasks.spectra.labels import COORDINATES_VERSION, FACTS_VERSION

if TYPE_CHECKING:
    from specdyn.models.experiments.base import Metric
    from specdyn.storage.cube import CubeWriter


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


def counting_variables(
    parts: Mapping[str, frozenset[str]], metrics: "Mapping[str, Metric]"
) -> dict[str, frozenset[str]]:
    """The variables that count in objects of results, by the analyses that do."""
    return {
        url: frozenset(name for analysis in counting for name in get_analysis(analysis).variables_for(metrics))
        for url, counting in parts.items()
    }


def measured_again(errors: Sequence[DamagedResult]) -> StoreError:
    """What to say where results were damaged and are removed."""
    first, more = errors[0], len(errors) - 1
    others = f" ({plural(more, 'other object')} too)" if more else ""
    return StoreError(f"{first}{others}; it is removed: call again to have it measured again")


@dataclass(frozen=True, kw_only=True)
class StudyCube(ABC):
    """The cube of what a study consists of, and its report."""

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
    def measured(self) -> int:
        """Rows of which something is measured."""
        return sum(bool(row.parts) for row in self.rows)

    @property
    def contents(self) -> str:
        """Its rows, the results of each by ids that say what they are of, and all versions."""
        rows = [
            [row.key, row.status, row.results, sorted(url.rsplit("/", 1)[-1] for url in row.parts)] for row in self.rows
        ]
        decides = [rows, *self.versions.values(), dict(self.attributes())]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    @property
    @abstractmethod
    def kind(self) -> RowKind:
        """What its rows are of."""

    @property
    @abstractmethod
    def facts(self) -> Facts | None:
        """What follows from the values of a row."""

    @property
    @abstractmethod
    def versions(self) -> Mapping[str, Any]:
        """Of what computes its values, or digests of it."""

    @property
    @abstractmethod
    def rows(self) -> Sequence[Row]:
        """All that belongs to the study, measured or not."""

    @abstractmethod
    def again(self, keys: Collection[str] | None = None) -> Self:
        """The cube with rows looked at again: those with these keys, or all."""

    @abstractmethod
    def attributes(self) -> Mapping[str, Any]:
        """What it says of itself."""

    def write(self, lease: Lease | None) -> None:
        """Write what the cube lacks.

        StoreError where results were damaged, after they are removed and the cube has all others.
        """
        writer, cube = self.writer(lease), self
        errors: list[DamagedResult] = []
        while True:
            try:
                writer.write(cube.rows, {**cube.described(), "contents": "" if errors else cube.contents})
                break
            except DamagedResult as error:
                objects.delete(error.url)
                errors.append(error)
                cube = cube.again()
        if errors:
            raise measured_again(errors)

    def following(self, lease: Lease | None) -> "Following":
        """The cube, to be written while its units run."""
        return Following(self, self.writer(lease))

    def writer(self, lease: Lease | None) -> "CubeWriter":
        """What writes it."""
        from specdyn.storage.cube import CubeWriter

        return CubeWriter(url=self.url, kind=self.kind, facts=self.facts, meanings=self.meanings, lease=lease)

    @property
    def meanings(self) -> Mapping[str, Mapping[str, str]]:
        """Attributes of the settings along its rows: what each means, and its unit."""
        return {}

    def described(self) -> dict[str, Any]:
        """Its attributes, with the versions of what computed its values."""
        return {**self.attributes(), **self.versions}

    def draw(self) -> None:
        """Write the page of its report."""
        from specdyn.tasks.figures.live.beside import look_beside
        from specdyn.tasks.figures.report import write_report

        beside = look_beside(self.store, self.name, [self.url])
        write_report(self.url, self.store.report(self.name), beside=beside[self.url])


@dataclass(frozen=True, kw_only=True)
class RunsCube(StudyCube):
    """The cube of runs of any origin."""

    @property
    def kind(self) -> RowKind:
        """Runs."""
        return RUNS

    @property
    def facts(self) -> Facts:
        """Those that a table of the runs shows."""
        from specdyn.tasks.spectra.facts import RUN_FACTS

        return RUN_FACTS

    @property
    def versions(self) -> dict[str, Any]:
        """Of the analyses and the facts."""
        return {
            "analyses": versions_of(self.analyses),
            "facts_version": FACTS_VERSION,
            "coordinates_version": COORDINATES_VERSION,
        }

    @property
    @abstractmethod
    def analyses(self) -> Sequence[str]:
        """The analyses whose variables it has."""


class Following:
    """A cube that is written while units of its study run."""

    def __init__(self, cube: StudyCube, writer: "CubeWriter") -> None:
        self._cube, self._writer = cube, writer

    def prepare(self) -> None:
        """Have the labels of all rows made, which takes their networks."""
        for row in self._cube.rows:
            row.layout_of()

    def update(self, keys: Collection[str]) -> None:
        """Look at rows again, by their keys, and write what is new; what it holds is not said to be whole."""
        self._cube = self._cube.again(keys)
        if rows := self._cube.rows:
            self._writer.write(rows, {**self._cube.described(), "contents": ""})
