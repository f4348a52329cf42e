"""The verdicts on a page: the newest of each claim, what fails first, and what they rest on."""

from pathlib import Path
from typing import Any

import pytest

from specdyn.storage.access import objects
from specdyn.storage.places import Store
from specdyn.tasks.figures.live.judged import judged_on
from specdyn.tasks.figures.live.page import TEMPLATES
from specdyn.tasks.verdicts.judging import Verdict
from specdyn.tasks.verdicts.storing import keep


def verdict(claim: str, state: str, **more: Any) -> Verdict:
    usual = {
        **{"version": 1, "rule": f"rule of {claim}", "case": "", "studies": ("mine",), "statement": f"About {claim}."},
        **{"sentence": f"{claim.upper()} is judged.", "effect": "ratio", "value": 0.12345, "low": 0.1, "high": 0.2},
        **{"null": 1.0, "n": 3},
    }
    return Verdict(claim=claim, state=state, **{**usual, **more})  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_failures_come_first_and_what_was_not_run_is_apart(store: Store) -> None:
    none = {"value": None, "low": None, "high": None, "null": None, "n": 0, "effect": ""}
    keep(store, [verdict("w1", "pass"), verdict("g3", "not run", **none), verdict("t1", "fail"), verdict("a1", "pass")])
    found = judged_on(store, "mine")
    assert [line.claim for line in found.decided] == ["T1 v1", "A1 v1", "W1 v1"]
    assert [line.claim for line in found.not_run] == ["G3 v1"]
    assert found.counts == "1 fail, 2 pass, 1 not run"
    first = found.decided[0]
    assert (first.effect, first.value, first.interval, first.null, first.n) == (
        "ratio",
        "0.123",
        "0.1 to 0.2",
        "1",
        "3",
    )
    assert (found.not_run[0].value, found.not_run[0].interval, found.not_run[0].n) == ("-", "-", "-")


def test_a_later_verdict_replaces_an_earlier_one_on_the_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from specdyn.tasks.verdicts import storing

    class Clock:
        hour = 10

        @classmethod
        def now(cls, zone: Any) -> Any:
            from datetime import datetime

            cls.hour += 1
            return datetime(2026, 11, 30, cls.hour, tzinfo=zone)

    monkeypatch.setattr(storing, "datetime", Clock)
    keep(store, [verdict("t1", "fail")])
    keep(store, [verdict("t1", "pass", contents="new", rule="later")])
    (line,) = judged_on(store, "mine").decided
    assert line.state == "pass"
    assert line.notes == ("based on earlier results than this page",), "there is no cube of these contents"


def test_without_verdicts_the_page_says_the_command_and_a_damaged_one_is_said(store: Store) -> None:
    def text() -> str:
        return TEMPLATES.get_template("judged.html").render(judged=judged_on(store, "mine"))

    assert "<code>specdyn claims mine</code>" in text() and "<table" not in text()
    objects.write(f"{store.verdicts('mine')}/t1.json", b"{")
    assert "t1.json is not a verdict" in text() and "<table" not in text()


def test_what_users_wrote_is_no_markup(store: Store) -> None:
    keep(store, [verdict("t1", "fail", exceptions=("<b>layer</b>",), notes=("seed 1 <i>",))])
    text = TEMPLATES.get_template("judged.html").render(judged=judged_on(store, "mine"))
    assert "Exceptions: &lt;b&gt;layer&lt;/b&gt;." in text and "<b>" not in text and "<i>" not in text
