"""Prefect's UI in a headless browser, for its tests and for the screenshots of the documents."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from playwright.sync_api import Locator, Page, expect, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MILLISECONDS = 120_000
"""Milliseconds for anything to appear, even on a busy machine."""


def browser_program() -> str | None:
    """The path of an installed browser, or None."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@contextmanager
def browser_page(program: str) -> Iterator[Page]:
    """An empty page of a browser that is closed at the end."""
    expect.set_options(timeout=MILLISECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(MILLISECONDS)
            yield page
        finally:
            browser.close()


def open_deployment(page: Page, ui: str, flow: str, name: str) -> str:
    """Find a deployment of a flow in the list of all and open it; returns its address."""
    page.goto(f"{ui}/deployments")
    page.get_by_role("link", name=name, exact=True).click()
    page.wait_for_url("**/deployments/deployment/*")
    expect(page.get_by_role("link", name=flow).first).to_be_visible()
    return page.url.partition("?")[0]


class Form:
    """The form that starts a run of a deployment."""

    def __init__(self, page: Page, deployment: str) -> None:
        self._page = page
        page.goto(f"{deployment}/run")
        expect(self.submit).to_be_visible()

    @property
    def submit(self) -> Locator:
        """The button that starts the run."""
        return self._page.get_by_role("button", name="Submit")

    def field(self, title: str) -> Locator:
        """The field of that title, with its description, input and error."""
        label = f'.schema-form-property__label:text-is("{title} (Optional)")'
        return self._page.locator(f".schema-form-property:has(> .p-label__header {label})")

    def choices(self, title: str) -> Locator:
        """The choices that a field offers, opened."""
        # By keyboard: a click on the button is handled twice, by it and by the box around it, and closes them again.
        self._select(title).press("ArrowDown")
        return self._page.get_by_role("listbox").get_by_role("option")

    def choose(self, title: str, choice: str) -> None:
        """Choose one of the choices of a field."""
        self.choices(title).and_(self._page.get_by_role("option", name=choice, exact=True)).click()
        expect(self._select(title)).to_have_text(choice)

    def number(self, title: str, value: float) -> None:
        """Put a number into a field."""
        self.field(title).get_by_role("spinbutton").fill(f"{value:g}")

    def numbers(self, title: str, *values: float) -> None:
        """Add numbers to the list of a field."""
        inputs = self.field(title).get_by_role("spinbutton")
        for value in values:
            there = inputs.count()
            self.field(title).get_by_role("button", name="Add item").click()
            expect(inputs).to_have_count(there + 1)
            inputs.last.fill(f"{value:g}")

    def start(self) -> str:
        """Start the run; returns its id.

        Retries, like a user, if Prefect answers with a 503: SQLite has one writer at a time.
        """
        for _ in range(3):
            with self._page.expect_response(lambda answer: answer.url.endswith("/create_flow_run")) as answer:
                self.submit.click()
            if answer.value.status != HTTPStatus.SERVICE_UNAVAILABLE:
                break
        assert answer.value.ok, answer.value.text()
        made: str = answer.value.json()["id"]
        return made

    def _select(self, title: str) -> Locator:
        return self.field(title).locator(".p-select-button").get_by_role("button")


def open_run(page: Page, ui: str, run: str, tab: str) -> Locator:
    """Open a tab of a flow run's page; returns what the tab shows."""
    page.goto(f"{ui}/runs/flow-run/{run}")
    page.get_by_role("tablist").get_by_text(tab, exact=True).click()
    return page.get_by_role("tabpanel", name=tab)


def wait_for_state(page: Page, ui: str, run: str, state: str) -> None:
    """Wait until a flow run has ended; AssertionError unless its page then has it in that state."""
    page.goto("about:blank")  # the page of a running run redraws constantly, which slows down the run
    while page.request.get(f"{ui}/api/flow_runs/{run}").json()["end_time"] is None:
        page.wait_for_timeout(500)
    page.goto(f"{ui}/runs/flow-run/{run}")
    badge = page.locator(".state-badge").first
    expect(badge).to_have_text(re.compile("Completed|Failed|Crashed|Cancelled"))
    expect(badge).to_have_text(re.compile(state))


def artifacts(page: Page, ui: str, run: str) -> dict[str, str]:
    """Addresses of the artifacts of a flow run that has ended, by key, as its page lists them."""
    panel = open_run(page, ui, run, "Artifacts")
    expect(panel.get_by_role("heading", name="Task runs")).to_be_visible()
    panel.hover()
    page.mouse.wheel(0, 10_000)  # artifacts of tasks are drawn only when scrolled into view
    cards = panel.get_by_role("link")
    expect(cards.filter(has_text="markdown").filter(has_text="summary")).to_be_visible()
    titles = cards.locator(".artifact-card__title").all_inner_texts()
    return {title: f"{ui}{card.get_attribute('href')}" for title, card in zip(titles, cards.all(), strict=True)}


def add_schedule(page: Page, deployment: str, slug: str, minutes: int) -> None:
    """Add a schedule to a deployment on its page."""
    page.goto(deployment)
    page.get_by_role("button", name="Schedule", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox").first.fill(slug)
    dialog.get_by_role("spinbutton").fill(str(minutes))
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_text(slug, exact=True)).to_be_visible()
