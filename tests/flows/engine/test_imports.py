"""Large imports go without the collection of garbage, and only they."""

import gc
from collections.abc import Iterator

import pytest

from specdyn.flows.engine.imports import importing


@pytest.fixture(autouse=True, scope="module")
def collecting() -> Iterator[None]:
    """Leave garbage collection as it was: on, and what was imported left alone."""
    yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_nothing_is_collected_within_and_all_is_as_before_afterwards(before: bool, fails: bool) -> None:
    (gc.enable if before else gc.disable)()
    try:
        with importing():
            with importing():
                assert not gc.isenabled()
            assert not gc.isenabled()
            if fails:
                raise ImportError
    except ImportError:
        assert fails
    assert gc.isenabled() == before


def test_what_was_imported_is_not_looked_through_again() -> None:
    gc.unfreeze()
    with importing():
        kept = [[] for _ in range(1000)]
    assert gc.get_freeze_count() > len(kept)
