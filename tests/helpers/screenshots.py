"""Makes the screenshots of the documents: `make docs-figures FIGURES=ui`."""

import io
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page, expect

from helpers.browsing import Form, add_schedule, artifacts, browser_page, browser_program, open_deployment, open_run
from helpers.served import Served, served

LARGEST = 200_000
LEFT, RIGHT = 256, 1234
"""Horizontal range of an artifact's column in a window of width 1500."""
MINUTES = 15
ASK_MILLISECONDS = 1_000
STAGES = ("trainings-progress", "analyses-progress")


def save(folder: Path, name: str, *pages: bytes) -> None:
    """Write pictures below each other as one, in 256 colours."""
    pictures = [Image.open(io.BytesIO(page)).convert("RGB") for page in pages]
    whole = Image.new("RGB", (pictures[0].width, sum(picture.height for picture in pictures)))
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height
    whole.quantize(256, dither=Image.Dither.NONE).save(folder / name, optimize=True)
    size = (folder / name).stat().st_size
    assert size < LARGEST, f"{name} has {size} bytes"
    print(f"{folder / name}: {size / 1000:.0f} kB")


def quiet(page: Page) -> None:
    """Wait until loading and notifications are over, and unfocus all fields."""
    page.wait_for_load_state("networkidle")
    expect(page.locator(".p-toast-container__toast, .p-loading-icon")).to_have_count(0)
    page.mouse.move(640, 880)


def above(page: Page, last: Locator) -> bytes:
    """An artifact's column from the top of the page to something."""
    expect(last).to_be_visible()
    quiet(page)
    box = last.bounding_box()
    assert box is not None
    place: FloatRect = {"x": LEFT, "y": 0, "width": RIGHT - LEFT, "height": box["y"] + box["height"] + 16}
    return page.screenshot(clip=place)


def wait_for_progress(page: Page, service: Served, run: str, least: float) -> None:
    """Wait until that percentage of both stages together is done."""
    question = {"artifacts": {"flow_run_id": {"any_": [run]}}}
    for _ in range(MINUTES * 60):
        done = {
            each["key"]: float(each["data"])
            for each in service.ask("/artifacts/filter", question)
            if each["key"] in STAGES
        }
        if sum(done.values()) / len(STAGES) >= least:
            return
        page.wait_for_timeout(ASK_MILLISECONDS)
    raise AssertionError(f"after {MINUTES} minutes {done}")


def wait_for_end(page: Page, service: Served, run: str) -> None:
    """Wait until the run has completed."""
    for _ in range(MINUTES * 60):
        state = service.ask(f"/flow_runs/{run}")["state"]
        if state["type"] == "COMPLETED":
            return
        assert state["type"] not in ("FAILED", "CRASHED", "CANCELLED"), state
        page.wait_for_timeout(ASK_MILLISECONDS)
    raise AssertionError(f"after {MINUTES} minutes {state}")


def fill_form(page: Page, service: Served, folder: Path) -> tuple[str, Form]:
    """Fill the form of a sweep as a user does, and take its picture; returns the deployment's page and the form."""
    deployment = open_deployment(page, service.ui, "weight-decay-sweep", "run")
    form = Form(page, deployment)
    form.choose("Preset", "demo")
    form.numbers("Weight decays", 0, 1)
    page.evaluate("document.activeElement.blur()")
    page.get_by_role("heading", name="Parameters").scroll_into_view_if_needed()
    page.mouse.move(640, 450)
    page.mouse.wheel(0, -10_000)
    page.wait_for_timeout(ASK_MILLISECONDS)
    quiet(page)
    save(folder, "ui_form.png", page.screenshot())
    return deployment, form


def make(page: Page, service: Served, folder: Path) -> None:
    """Start a sweep as a user does, and take the pictures on the way."""
    deployment, form = fill_form(page, service, folder)
    run = form.start()

    wait_for_progress(page, service, run, least=60)
    expect(open_run(page, service.ui, run, "Task Runs").get_by_text("Running").first).to_be_visible()
    quiet(page)
    page.wait_for_timeout(3 * ASK_MILLISECONDS)  # the graph moves to its place
    save(folder, "ui_run.png", page.screenshot())

    wait_for_end(page, service, run)
    made = artifacts(page, service.ui, run)
    page.set_viewport_size({"width": 1500, "height": 900})
    page.goto(made["summary"])
    summary = above(page, page.locator("pre"))
    page.goto(made["effective-rank"])
    figure = above(page, page.locator("img[src^='data:image/png']"))
    save(folder, "ui_artifacts.png", summary, figure)

    page.set_viewport_size({"width": 1280, "height": 900})
    add_schedule(page, deployment, slug="nightly", minutes=24 * 60)
    while not service.flow_runs(scheduled=True):
        page.wait_for_timeout(ASK_MILLISECONDS)
    page.goto(deployment)
    expect(page.get_by_text("nightly", exact=True)).to_be_visible()
    page.get_by_role("tablist").get_by_text("Upcoming", exact=True).click()
    expect(page.get_by_role("tabpanel", name="Upcoming").get_by_text("auto-scheduled").first).to_be_visible()
    quiet(page)
    save(folder, "ui_schedule.png", page.screenshot())


def report(page: Page, index: Path, folder: Path) -> None:
    """The top of a report's page."""
    page.set_viewport_size({"width": 1240, "height": 1180})
    page.goto(index.resolve().as_uri())
    expect(page.locator("svg").first).to_be_visible()
    page.wait_for_timeout(3 * ASK_MILLISECONDS)
    # The picture shows the reader's path of the results, not this machine's.
    page.evaluate(
        "for (const code of document.querySelectorAll('code'))"
        " code.textContent = code.textContent.replace(/^.*(?=\\/studies\\/)/, 'results')"
    )
    save(folder, "report.png", page.screenshot())


def explore(page: Page, store: str, study: str, folder: Path) -> None:
    """The explore app on a study."""
    words = ["explore", study, "--store", store, "--no-browser"]
    with subprocess.Popen([sys.executable, "-m", "specdyn", *words], stdout=subprocess.PIPE, text=True) as app:
        try:
            assert app.stdout is not None
            page.set_viewport_size({"width": 1240, "height": 1180})
            page.goto(next(word for word in app.stdout.readline().split() if word.startswith("http")))
            expect(page.get_by_role("img", name="curves")).to_be_visible()
            page.wait_for_timeout(3 * ASK_MILLISECONDS)
            save(folder, "explore.png", page.screenshot())
        finally:
            app.send_signal(signal.SIGINT)


def main() -> None:
    """Write the pictures to the given folder: of the UI, of a given report, or of the app on STORE STUDY."""
    folder = Path(sys.argv[1])
    program = browser_program()
    assert program is not None, "there is no Chromium or Chrome on this machine"
    if len(sys.argv) > 2:
        with browser_page(program) as page:
            if len(sys.argv) > 3:
                explore(page, sys.argv[2], sys.argv[3], folder)
            else:
                report(page, Path(sys.argv[2]), folder)
        return
    with (
        tempfile.TemporaryDirectory(prefix="specdyn-") as place,
        browser_page(program) as page,
        served(Path(place)) as service,
    ):
        (fill_form if sys.argv[2:] == ["form"] else make)(page, service, folder)


if __name__ == "__main__":
    main()
