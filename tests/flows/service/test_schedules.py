"""Times of schedules as people write them."""

from datetime import timedelta

import pytest
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from specdyn.flows.service.schedules import ServiceError, list_schedules, put_schedule, schedule_of


@pytest.mark.parametrize(("every", "seconds"), [("90s", 90), ("15m", 900), ("6h", 21600), ("1d", 86400)])
def test_intervals(every: str, seconds: int) -> None:
    schedule = schedule_of("", every, "UTC")
    assert isinstance(schedule, IntervalSchedule)
    assert schedule.interval == timedelta(seconds=seconds)


def test_cron_lines() -> None:
    schedule = schedule_of("0 2 * * *", "", "Europe/Paris")
    assert isinstance(schedule, CronSchedule)
    assert (schedule.cron, schedule.timezone) == ("0 2 * * *", "Europe/Paris")


@pytest.mark.parametrize("line", ["@daily", "0 0 29 2 *", "0 0 31 1,2 *", "*/5 8-18 * * mon-fri"])
def test_cron_lines_that_fire_are_taken(line: str) -> None:
    assert schedule_of(line, "", "UTC") == CronSchedule(cron=line, timezone="UTC")


@pytest.mark.parametrize("count", [1, 4, 6, 7])
def test_cron_lines_of_other_than_five_fields_are_refused(count: int) -> None:
    line = " ".join("*" * count)
    with pytest.raises(ValueError, match=rf"cron=.* expected five fields: minute, .* there are {count}$"):
        schedule_of(line, "", "UTC")


@pytest.mark.parametrize("line", ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 12 30-31 feb *"])
def test_days_that_never_come_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"cron=.* it never fires, as no year has such a day$"):
        schedule_of(line, "", "UTC")


@pytest.mark.parametrize(("cron", "every"), [("", "6h"), ("0 2 * * *", "")])
def test_an_unknown_timezone_is_refused(cron: str, every: str) -> None:
    with pytest.raises(ValueError, match=r"timezone='Mars/Olympus' is not allowed: expected a name such as UTC"):
        schedule_of(cron, every, "Mars/Olympus")


@pytest.mark.parametrize("every", ["6", "h", "0m", "-5m", "1.5h", "6w", "6 h", "999999999d", "\u0666h"])
def test_wrong_intervals_are_refused(every: str) -> None:
    with pytest.raises(
        ValueError, match=r"every=.*expected a whole number from 1 to 99999999 followed by s, m, h or d"
    ):
        schedule_of("", every, "UTC")


@pytest.mark.parametrize("cron", ["99 * * * *", "0 25 * * *", "@whenever", "R 2 * * *"])
def test_wrong_cron_lines_are_refused(cron: str) -> None:
    with pytest.raises(ValueError, match=r"cron=.* is not allowed: (Invalid cron|Random and Hashed)"):
        schedule_of(cron, "", "UTC")


@pytest.mark.parametrize(("cron", "every"), [("", ""), ("0 2 * * *", "6h")])
def test_one_of_both_is_needed(cron: str, every: str) -> None:
    with pytest.raises(ValueError, match=r"give either --cron or --every, not (both|neither)$"):
        schedule_of(cron, every, "UTC")


def test_names_are_checked_before_the_service_is_asked() -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        put_schedule("Not a name", schedule_of("", "6h", "UTC"), {})


def test_a_service_that_does_not_answer_is_named() -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api", PREFECT_CLIENT_MAX_RETRIES: 0}),
        pytest.raises(ServiceError, match=r"start `specdyn serve`, or set --api"),
    ):
        list_schedules()
