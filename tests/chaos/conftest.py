"""Tests of this folder say what they did to the program, and the seed of what was drawn, at the end of the session."""

import os
import secrets
from collections.abc import Callable

import pytest

SEED = "SPECDYN_CHAOS_SEED"


@pytest.fixture
def told(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Notes what a test did and found, by name, for the table at the end of the session."""

    def tell(**found: object) -> None:
        for name, value in found.items():
            record_property(name.replace("_", " "), value)

    return tell


@pytest.fixture
def seed(told: Callable[..., None]) -> int:
    """What a test draws from: another number each time, or that of SPECDYN_CHAOS_SEED."""
    chosen = int(os.environ.get(SEED) or secrets.randbelow(2**32))
    told(seed=chosen)
    return chosen


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each test that told something."""
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.getreports(kind)]
    told = [each for each in reports if each.when == "call" and each.user_properties]
    if told:
        terminalreporter.section("what was tried, and what came of it")
    for each in told:
        found = ", ".join(f"{name}: {value}" for name, value in each.user_properties)
        terminalreporter.write_line(f"{each.nodeid.rpartition('::')[2]}: {found}; {each.duration:.0f} s")
