"""The results of checking a store, and the scope of a check."""

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
    """A damaged or missing object."""

    kind: Kind
    url: str
    what: str
    """What is wrong with it."""
    repair: str
    """How to repair it."""
    owner: str = ""
    """URL of the run, study, data set or result that it belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The result of one check."""

    objects: int = 1
    bytes: int = 0
    damage: tuple[Damage, ...] = ()
    skipped: str = ""
    """Why the check was skipped; empty if it was not."""


Check = Callable[[], Checked]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Everything that belongs to some studies."""

    studies: frozenset[str]
    """Their names."""
    runs: frozenset[tuple[str, str]]
    """Experiment and run_id."""
    pairs: frozenset[str]
    """Ids of pairs of runs."""
    series: frozenset[str]
    """Ids of results of other programs' checkpoints, and of the records of their files' contents."""

    def has_result(self, kind: str, experiment: str, name: str) -> bool:
        """Whether a result belongs to the scope; its name begins with the id of its run, pair or series."""
        owner, digest, _ = name.partition("-")
        if kind == "pairs":
            return owner in self.pairs
        return (experiment, owner) in self.runs if digest else name in self.series


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A listing of a store, and the part of it to check."""

    store: Store
    keys: Mapping[str, Listed]
    """Every object, by its key below the store."""
    scope: Scope | None = None
    """The whole store if None."""

    def below(self, folder: str) -> dict[str, Listed]:
        """The objects of a folder of the store, by their keys below it."""
        start = f"{folder}/"
        return {key.removeprefix(start): item for key, item in self.keys.items() if key.startswith(start)}

    def url(self, key: str) -> str:
        """URL of an object."""
        return f"{self.store}/{key}"

    def size(self, url: str) -> int:
        """Size of an object in bytes by the listing; 0 if it is not listed."""
        listed = self.keys.get(url.removeprefix(f"{self.store}/"))
        return listed.bytes if listed else 0

    def has_study(self, name: str) -> bool:
        """Whether the study is in scope."""
        return self.scope is None or name in self.scope.studies

    def has_run(self, experiment: str, run_id: str) -> bool:
        """Whether the run is in scope."""
        return self.scope is None or (experiment, run_id) in self.scope.runs

    def has_result(self, kind: str, experiment: str, name: str) -> bool:
        """Whether the result is in scope."""
        return self.scope is None or self.scope.has_result(kind, experiment, name)


def clean(look: Look, url: str) -> Checked:
    """The result for a sound object."""
    return Checked(bytes=look.size(url))


def bad(look: Look, kind: Kind, url: str, what: str, repair: str, owner: str = "") -> Checked:
    """The result for a damaged object."""
    said = " ".join(what.split())[:300]
    return Checked(bytes=look.size(url), damage=(Damage(kind=kind, url=url, what=said, repair=repair, owner=owner),))
