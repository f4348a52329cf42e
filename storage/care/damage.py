"""What a check of a store finds, and what it looks at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from specdyn.storage.access.listing import Listed
from specdyn.storage.places import Store

Kind = Literal[
    "store version",
    "record",
    "series record",
    "manifest",
    "run",
    "checkpoint",
    "state",
    "mask",
    "result",
    "cube",
    "data set",
    "recording",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """An object that is not as it was written."""

    kind: Kind
    url: str
    what: str
    """What is wrong with it."""
    repair: str
    """What makes it good."""
    owner: str = ""
    """The run, study, data set or result that it belongs to, by its URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What one check looked at, and what it found."""

    objects: int = 1
    bytes: int = 0
    damage: tuple[Damage, ...] = ()
    skipped: str = ""
    """Why it could not look; empty where it could."""


Check = Callable[[], Checked]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What belongs to some studies."""

    studies: frozenset[str]
    """Their names."""
    runs: frozenset[tuple[str, str]]
    """Experiment and run_id."""
    pairs: frozenset[str]
    """Ids of pairs of runs."""
    series: frozenset[str]
    """Ids of the results of other programs' checkpoints, and of the records of what their files hold."""

    def has_result(self, kind: str, experiment: str, name: str) -> bool:
        """Whether a result belongs to it: names of results begin with the id of what they are of."""
        owner, digest, _ = name.partition("-")
        if kind == "pairs":
            return owner in self.pairs
        return (experiment, owner) in self.runs if digest else name in self.series


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A store as it is listed once, and how much of it is asked for."""

    store: Store
    keys: Mapping[str, Listed]
    """Every object, by its key below the store."""
    scope: Scope | None = None
    """All of the store where it is None."""

    def below(self, folder: str) -> dict[str, Listed]:
        """The objects of a folder of the store, by their keys below it."""
        start = f"{folder}/"
        return {key.removeprefix(start): item for key, item in self.keys.items() if key.startswith(start)}

    def url(self, key: str) -> str:
        """Where an object lies."""
        return f"{self.store}/{key}"

    def size(self, url: str) -> int:
        """The bytes of an object by the listing; 0 where it was not there."""
        listed = self.keys.get(url.removeprefix(f"{self.store}/"))
        return listed.bytes if listed else 0

    def has_study(self, name: str) -> bool:
        """Whether a study of that name is asked for."""
        return self.scope is None or name in self.scope.studies

    def has_run(self, experiment: str, run_id: str) -> bool:
        """Whether a run is asked for."""
        return self.scope is None or (experiment, run_id) in self.scope.runs

    def has_result(self, kind: str, experiment: str, name: str) -> bool:
        """Whether a result is asked for."""
        return self.scope is None or self.scope.has_result(kind, experiment, name)


def clean(look: Look, url: str) -> Checked:
    """One object that is as it was written."""
    return Checked(bytes=look.size(url))


def bad(look: Look, kind: Kind, url: str, what: str, repair: str, owner: str = "") -> Checked:
    """One object that is not."""
    said = " ".join(what.split())[:300]
    return Checked(bytes=look.size(url), damage=(Damage(kind=kind, url=url, what=said, repair=repair, owner=owner),))
