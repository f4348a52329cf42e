"""Times of schedules as people write them."""

from datetime import timedelta

import pytest
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from flows.schedules import ServiceError, list_schedules, put_schedule, schedule_of


@pytest.mark.parametrize(("every", "seconds"), [("90s", 90), ("15m", 900), ("6h", 21600), ("1d", 86400)])
def test_intervals(every: str, seconds: int) -> None:
    schedule = schedule_of("", every, "UTC")
    assert isinstance(schedule, IntervalSchedule)
    assert schedule.interval == timedelta(seconds=seconds)


def test_cron_lines() -> None:
    schedule = schedule_of("0 2 * * *", "", "Europe/Paris")
    assert isinstance(schedule, CronSchedule)
    assert (schedule.cron, schedule.timezone) == ("0 2 * * *", "Europe/Paris")


@pytest.mark.parametrize("every", ["6", "h", "0m", "-5m", "1.5h", "6w"])
def test_wrong_intervals_are_refused(every: str) -> None:
    with pytest.raises(ValueError, match=r"every=.*expected a whole number with s, m, h or d"):
        schedule_of("", every, "UTC")


@pytest.mark.parametrize(("cron", "zone"), [("99 * * * *", "UTC"), ("whenever", "UTC"), ("0 2 * * *", "Mars/Olympus")])
def test_wrong_cron_lines_are_refused(cron: str, zone: str) -> None:
    with pytest.raises(ValueError, match=r"cron=.*Invalid"):
        schedule_of(cron, "", zone)


@pytest.mark.parametrize(("cron", "every"), [("", ""), ("0 2 * * *", "6h")])
def test_one_of_both_is_needed(cron: str, every: str) -> None:
    with pytest.raises(ValueError, match="either --cron or --every"):
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
