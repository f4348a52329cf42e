"""What a group does with the service, in a real browser: fill the form, start a sweep, look at it, schedule it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from helpers.browsing import (
    Form,
    add_schedule,
    artifacts,
    browser_page,
    browser_program,
    open_deployment,
    wait_for_state,
)
from helpers.pipelines import weights_files
from helpers.served import Served, served
from specdyn.flows.fields import preset_names
from specdyn.models.experiments.base import experiment_names, get_experiment

pytestmark = [pytest.mark.integration, pytest.mark.scenario]

NAME = "modular_addition"
SMOKE = f"{NAME}-smoke"
REFUSED = "-1 is less than the minimum of 0"
DRAWN = "() => [...document.images].some(image => image.src.startsWith('data:image/png') && image.naturalWidth > 300)"
ALL_DRAWN = "() => document.querySelectorAll('figure.panel svg').length > 3"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """An empty page of a browser."""
    program = browser_program()
    if program is None:
        pytest.skip("there is no Chromium or Chrome on this machine")
    with browser_page(program) as page:
        yield page


@pytest.fixture(scope="module")
def service(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The whole service, which has stopped at the end."""
    with served(tmp_path_factory.mktemp("served")) as service:
        yield service


@pytest.fixture(scope="module")
def deployment(page: Page, service: Served) -> str:
    """The address of the page of the sweep."""
    return open_deployment(page, service.ui, "weight-decay-sweep", "run")


def checkpoints(store: Path) -> set[Path]:
    return set(weights_files(store))


def test_the_form_says_what_each_field_is_and_what_it_may_be(page: Page, deployment: str) -> None:
    form = Form(page, deployment)
    for title, about in {
        "Experiment": "The network and the data",
        "Preset": "is refused, with a list of its presets",
        "Weight decays": "E.g. [0.0, 0.3, 1.0].",
        "New seeds at each call": "For schedules; 0 adds none.",
        "Optimizers": "Empty for the preset's",
        "Store": "Credentials come from the environment, not from here.",
        "Resources of a task": "A task is one training",
    }.items():
        expect(form.field(title)).to_contain_text(about)
    for title, choices in {
        "Experiment": experiment_names(),
        "Preset": preset_names(),
        "Executor": ["ray", "inline"],
    }.items():
        expect(form.choices(title)).to_have_text(choices)
        page.keyboard.press("Escape")


def test_an_impossible_item_of_a_list_is_refused_at_its_place(page: Page, service: Served, deployment: str) -> None:
    before = service.flow_runs()
    form = Form(page, deployment)
    form.numbers("Weight decays", 1, -1)
    form.submit.click()
    expect(form.field("Weight decays")).to_contain_text(REFUSED)
    expect(form.field("Seeds")).not_to_contain_text(REFUSED)
    assert page.url.endswith("/run"), "the form is still there"
    assert service.flow_runs() == before


def test_an_impossible_number_is_refused_with_the_reason(page: Page, service: Served, deployment: str) -> None:
    before = service.flow_runs()
    form = Form(page, deployment)
    form.number("New seeds at each call", -1)
    form.submit.click()
    why = f"Validation failed for field 'more_seeds'. Failure reason: {REFUSED}"
    expect(page.get_by_text(why).first).to_be_visible()
    assert page.url.endswith("/run"), "the form is still there"
    assert service.flow_runs() == before


def test_a_preset_that_the_experiment_lacks_is_refused_with_the_form(
    page: Page, service: Served, deployment: str
) -> None:
    known = get_experiment(NAME).presets
    foreign = next(name for name in preset_names()[1:] if name not in known)
    before = service.flow_runs()
    form = Form(page, deployment)
    form.choose("Preset", foreign)
    form.submit.click()
    expect(form.field("Preset")).to_contain_text(f"'{foreign}' is not one of ['usual', ")
    assert page.url.endswith("/run"), "the form is still there"
    assert service.flow_runs() == before


def test_a_sweep_started_in_the_form_ends_with_its_artifacts(page: Page, service: Served, deployment: str) -> None:
    form = Form(page, deployment)
    form.choose("Preset", "smoke")
    form.numbers("Weight decays", 1)
    form.choose("Executor", "inline")
    run = form.start()
    wait_for_state(page, service.ui, run, "Completed")
    assert len(checkpoints(service.store)) >= 7

    made = artifacts(page, service.ui, run)
    fixed = {"plan", "trainings-progress", "analyses-progress", "summary", "report"}
    assert set(made) == fixed | {"performance", "effective-rank"}

    page.goto(made["plan"])
    expect(page.get_by_role("row", name="wd=1 seed=0")).to_contain_text("trainings, analyses")
    for stage in ("trainings", "analyses"):
        page.goto(made[f"{stage}-progress"])
        expect(page.get_by_text("Progress: 100%")).to_be_visible()
    page.goto(made["summary"])
    expect(page.get_by_role("columnheader", name="weight decay")).to_be_visible()
    expect(page.get_by_text(f'xarray.open_datatree("{service.store}/studies/{SMOKE}/results.zarr"')).to_be_visible()
    for name in sorted(made.keys() - fixed):
        page.goto(made[name])
        page.wait_for_function(DRAWN)

    page.goto(made["report"])
    with page.expect_popup() as opened:
        page.get_by_role("link", name=f"Report of {SMOKE}").click()
    report = opened.value
    assert report.url == f"{service.reports}/{SMOKE}/index.html"
    expect(report.get_by_role("heading").first).to_contain_text(SMOKE)
    report.wait_for_function(ALL_DRAWN)
    report.close()

    page.goto(deployment)
    expect(page.get_by_role("tabpanel", name="Runs").get_by_role("link", name=f"{NAME} smoke")).to_be_visible()


def test_a_schedule_made_on_the_page_has_runs_that_come(page: Page, service: Served, deployment: str) -> None:
    add_schedule(page, deployment, slug="weekly", minutes=7 * 24 * 60)
    end = time.monotonic() + 60
    while not service.flow_runs(scheduled=True):
        assert time.monotonic() < end, "the schedule made no runs"
        page.wait_for_timeout(500)
    page.goto(deployment)
    page.get_by_role("tablist").get_by_text("Upcoming", exact=True).click()
    coming = page.get_by_role("tabpanel", name="Upcoming")
    expect(coming.get_by_text("auto-scheduled").first).to_be_visible()
    expect(coming.get_by_role("button", name="Scheduled for").first).to_be_visible()
