"""Stores verdicts next to their cubes, each only once, so that later rules do not overwrite earlier verdicts."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

from specdyn.storage import generations
from specdyn.storage.access import objects
from specdyn.storage.access.codec import decode, encode
from specdyn.storage.access.objects import StoreError
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.storage.studies import READERS, cube_of, kinds_of
from specdyn.tasks.evidence.claim import Claim
from specdyn.tasks.verdicts.judging import Cubes, Verdict, judge

OF_KIND = {"sweep": "results", "series": "results", "connectivity": "connectivity", "tickets": "tickets"}


def open_cubes(store: Store, studies: Sequence[str]) -> Cubes:
    """The cubes of studies. ValueError lists the store's studies, StoreError names a study without results."""
    found: dict[str, dict[str, object]] = {"results": {}, "connectivity": {}, "tickets": {}}
    for study in dict.fromkeys(studies):
        cubes = {OF_KIND[kind]: cube_of(store, study, kind) for kind in kinds_of(store, study)}
        places = {kind: url for kind, url in cubes.items() if generations.attributes(url)}
        if not places:
            raise StoreError(f"{study} in {store} has no results yet: a claim is judged once runs are analysed")
        for kind, url in places.items():
            found[kind][study] = open_results(url)
    return Cubes(**found)  # type: ignore[arg-type]


def judge_studies(store: Store, studies: Sequence[str], claims: Sequence[Claim]) -> list[Verdict]:
    """Verdicts on studies, from their cubes; writes nothing."""
    return judge(claims, open_cubes(store, studies))


def keep(store: Store, verdicts: Sequence[Verdict]) -> int:
    """Store new verdicts next to each of their studies; returns their number.

    Existing ones are kept, even if Holm's correction now covers other claims. StoreError if nothing can be written.
    """
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    put = 0
    for verdict in verdicts:
        data = encode(replace(verdict, made=moment))
        for study in verdict.studies:
            url = f"{store.verdicts(study)}/{verdict.key}.json"
            put += not objects.exists(url) and objects.create(url, data)
    return put


def kept(store: Store, study: str) -> list[Verdict]:
    """All stored verdicts on a study, oldest first; one listing, and one request per verdict.

    StoreError names one that is damaged.
    """
    folder = store.verdicts(study)
    urls = [f"{folder}/{name}" for name in objects.names(folder) if name.endswith(".json")]
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(_read, urls))
    return sorted(found, key=lambda one: (one.made, one.claim, one.case))


def newest(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The last stored verdict for each claim and case."""
    return list({(one.claim, one.case): one for one in verdicts}.values())


def _read(url: str) -> Verdict:
    try:
        return decode(Verdict, url, objects.read(url))
    except ValueError as error:
        raise StoreError(f"{url} is not a verdict ({error}); delete it, and `specdyn claims` writes it again") from None
