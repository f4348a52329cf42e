"""Gathers a study's results into its cube and writes its report, in one process."""

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


def complete_results(study: Study, store: Store) -> Results | None:
    """The results, if the study is recorded and nothing is left to train or measure; their cube may be out of date.

    Only reads. Also None if something failed.
    """
    try:
        if not study.recorded(store):
            return None
    except StoreError:  # an unreadable record is rewritten
        return None
    results = study.results(store)
    return results if results.complete else None


def finished_results(study: Study, store: Store, report: bool) -> Results | None:
    """The results, if the store has everything that a call requests, so that nothing need be started or written."""
    results = complete_results(study, store)
    return results if results and gathered(results, report) else None


def gathered(results: Results, report: bool) -> bool:
    """Whether the cube has these results, and the report too if one is requested."""
    return stored_contents(results.url) == results.contents and (not report or drawn(results))


def gather(study: Study, store: Store, report: bool, lease: Lease | None = None) -> tuple[Results, bool]:
    """Write the cube unless it is up to date, and the report unless it matches the cube.

    Returns the cube and whether it was written. If a call died between the two, only the report is written.
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
    """Whether the report exists and matches the cube's contents."""
    return all(map(objects.exists, results.report)) and _noted(results.note) == results.contents


def _noted(url: str) -> str | None:
    """The contents from which a report was made, as recorded in an object; None if not recorded."""
    try:
        return str(json.loads(objects.read(url))["contents"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def stored_contents(url: str) -> str | None:
    """The attribute `contents` of the cube at a URL; None if there is none."""
    contents = generations.attributes(url).get("contents")
    return None if contents is None else str(contents)


def counting_variables(
    parts: Mapping[str, frozenset[str]], metrics: "Mapping[str, Metric]"
) -> dict[str, frozenset[str]]:
    """The valid variables in objects of results, from their valid analyses."""
    return {
        url: frozenset(name for analysis in counting for name in get_analysis(analysis).variables_for(metrics))
        for url, counting in parts.items()
    }


def measured_again(errors: Sequence[DamagedResult]) -> StoreError:
    """The error for damaged results that have been removed."""
    first, more = errors[0], len(errors) - 1
    others = f" ({plural(more, 'other object')} too)" if more else ""
    return StoreError(f"{first}{others}; removed: call again to measure it again")


@dataclass(frozen=True, kw_only=True)
class StudyCube(ABC):
    """The cube of a study, and its report."""

    name: str
    store: Store
    complete: bool
    """Whether everything requested is measured."""

    @property
    def url(self) -> str:
        """URL of the cube."""
        return self.store.cube(self.name)

    @property
    def note(self) -> str:
        """URL of the note that says from which contents the report was made."""
        return f"{self.store.report(self.name)}/drawn.json"

    @property
    def report(self) -> tuple[str, ...]:
        """URLs of the report."""
        return (f"{self.store.report(self.name)}/index.html",)

    @property
    def measured(self) -> int:
        """Number of rows with results."""
        return sum(bool(row.parts) for row in self.rows)

    @property
    def contents(self) -> str:
        """Digest of its rows, the ids of their results, and all versions."""
        rows = [
            [row.key, row.status, row.results, sorted(url.rsplit("/", 1)[-1] for url in row.parts)] for row in self.rows
        ]
        decides = [rows, *self.versions.values(), dict(self.attributes())]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    @property
    @abstractmethod
    def kind(self) -> RowKind:
        """The kind of its rows."""

    @property
    @abstractmethod
    def facts(self) -> Facts | None:
        """The facts derived from the values of a row."""

    @property
    @abstractmethod
    def versions(self) -> Mapping[str, Any]:
        """Versions, or digests, of the code that computes its values."""

    @property
    @abstractmethod
    def rows(self) -> Sequence[Row]:
        """All rows of the study, measured or not."""

    @abstractmethod
    def again(self, keys: Collection[str] | None = None) -> Self:
        """The cube with refreshed rows: those with these keys, or all."""

    @abstractmethod
    def attributes(self) -> Mapping[str, Any]:
        """Its descriptive attributes."""

    def write(self, lease: Lease | None) -> None:
        """Write what the cube lacks.

        StoreError if results were damaged, after removing them and writing all others.
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
        """The cube, for writing while its units run."""
        return Following(self, self.writer(lease))

    def writer(self, lease: Lease | None) -> "CubeWriter":
        """The writer of the cube."""
        from specdyn.storage.cube import CubeWriter

        return CubeWriter(url=self.url, kind=self.kind, facts=self.facts, meanings=self.meanings, lease=lease)

    @property
    def meanings(self) -> Mapping[str, Mapping[str, str]]:
        """Meaning and unit of the settings along its rows."""
        return {}

    def described(self) -> dict[str, Any]:
        """Its attributes, including the versions of the code that computed its values."""
        return {**self.attributes(), **self.versions}

    def draw(self) -> None:
        """Write its report."""
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
        """The facts in the summary table of runs."""
        from specdyn.tasks.spectra.facts import RUN_FACTS

        return RUN_FACTS

    @property
    def versions(self) -> dict[str, Any]:
        """Versions of the analyses and the facts."""
        return {
            "analyses": versions_of(self.analyses),
            "facts_version": FACTS_VERSION,
            "coordinates_version": COORDINATES_VERSION,
        }

    @property
    @abstractmethod
    def analyses(self) -> Sequence[str]:
        """The analyses whose variables it contains."""


class Following:
    """Writes a cube while units of its study run."""

    def __init__(self, cube: StudyCube, writer: "CubeWriter") -> None:
        self._cube, self._writer = cube, writer

    def prepare(self) -> None:
        """Build the labels of all rows, which needs their networks."""
        for row in self._cube.rows:
            row.layout_of()

    def update(self, keys: Collection[str]) -> None:
        """Refresh rows by their keys, and write what is new, without marking the cube as complete."""
        self._cube = self._cube.again(keys)
        if rows := self._cube.rows:
            self._writer.write(rows, {**self._cube.described(), "contents": ""})
