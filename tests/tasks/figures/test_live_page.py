"""The page of a report in a real browser, from a file: what it shows is what the cube has."""

import csv
import dataclasses
import io
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from playwright.sync_api import Page, expect

import specdyn as sd
from helpers.browsing import browser_page, browser_program
from helpers.drawings import pairs, tickets
from specdyn.storage.places import Store
from specdyn.tasks.figures.live.beside import Beside
from specdyn.tasks.figures.live.judged import Judged, JudgedLine
from specdyn.tasks.figures.live.page import page as page_of

FIRST_PICTURE = "() => document.querySelector('figure.panel svg') !== null"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    store = Store(str(tmp_path_factory.mktemp("live") / "store"))
    sd.run("modular_addition", "smoke", store=store.url, weight_decay=[0.0, 1.0], seed=[0, 1])
    return store.cube("modular_addition-smoke")


@pytest.fixture(scope="module")
def tree(url: str) -> xr.DataTree:
    return sd.open(url)


DECIDED = JudgedLine(
    **{"claim": "T1 v1", "state": "fail", "statement": "Magnitude tickets train better.", "effect": "loss ratio"},
    **{"value": "1.02", "interval": "1.01 to 1.02", "null": "1", "n": "3", "sentence": "T1 fails on mine."},
    exceptions=("a.weight: rises",),
)
JUDGED = Judged(
    study="mine",
    counts="1 fail, 1 pass",
    decided=[DECIDED, dataclasses.replace(DECIDED, claim="W1 v1", state="pass", exceptions=())],
    not_run=[dataclasses.replace(DECIDED, claim="C1 v1", state="not run", sentence="C1 was not run: no lines.")],
)


@pytest.fixture(scope="module")
def opened(tree: xr.DataTree, url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, list[str]]]:
    """The page, and everything that it asked for or complained about."""
    program = browser_program()
    if program is None:
        pytest.skip("there is no Chromium or Chrome on this machine")
    file = tmp_path_factory.mktemp("page") / "index.html"
    file.write_text(page_of(tree, url, whole=tree, beside=Beside(judged=JUDGED)))
    heard: list[str] = []
    with browser_page(program) as page:
        page.on("console", lambda message: heard.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("request", lambda one: heard.append(one.url) if not one.url.startswith(("data:", "blob:")) else None)
        page.goto(file.as_uri())
        page.wait_for_function(FIRST_PICTURE)
        yield page, heard


def shown(page: Page, variable: str, place: int = 0) -> list[dict[str, Any]]:
    """What a picture draws, by variable and the place among its pictures."""
    found: str = page.evaluate(
        "([variable, place]) => { const of = panels.filter((p) => p.variable.name === variable)[place]; of.draw();"
        " return JSON.stringify(of.data); }",
        [variable, place],
    )
    return list(json.loads(found))


def choose(page: Page, what: str, value: str) -> None:
    page.select_option(f"#choose-{what}", value)


def test_it_needs_no_network_and_complains_of_nothing(opened: tuple[Page, list[str]]) -> None:
    page, heard = opened
    page.wait_for_timeout(300)
    assert len(heard) == 1 and heard[0].startswith("file://")
    assert page.evaluate("document.body.dataset.ready") == "yes"


def test_lines_are_the_values_of_the_chosen_layer(opened: tuple[Page, list[str]], tree: xr.DataTree) -> None:
    page, _ = opened
    ranks = tree["layers"].to_dataset()["effective_rank"]
    for place, layer in enumerate(ranks["layer"].values.tolist()):
        choose(page, "layer", str(place))
        data = shown(page, "effective_rank")
        expected = ranks.sel(layer=layer)
        assert len(data) == expected.size
        for one in data:
            assert one["value"] == pytest.approx(float(expected.isel(run=one["row"]).sel(step=one["x"])), abs=0)


def test_the_slider_chooses_the_step_of_a_spectrum(opened: tuple[Page, list[str]], tree: xr.DataTree) -> None:
    page, _ = opened
    choose(page, "layer", "0")
    values = tree["layers"].to_dataset()["singular_value"].isel(layer=0)
    page.locator("#choose-step").evaluate("(slider) => { slider.value = 2; slider.dispatchEvent(new Event('input')); }")
    data = shown(page, "singular_value", 1)
    expected = values.isel(step=2)
    for one in data:
        assert one["value"] == pytest.approx(float(expected.isel(run=one["row"]).sel(rank=one["x"])), abs=0)
    assert len(data) == int(np.isfinite(expected).sum())


def test_means_are_over_the_seeds_of_one_configuration(opened: tuple[Page, list[str]], tree: xr.DataTree) -> None:
    page, _ = opened
    page.check("#choose-mean")
    data = [one for one in shown(page, "loss") if one["dash"] == "val"]
    loss = tree["metrics"].to_dataset()["loss"].sel(split="val")
    expected = loss.groupby("weight_decay").mean()
    assert len(data) == expected.size and {one["n"] for one in data} == {2}
    for one in data:
        decay = float(one["z"].rsplit(" ", 1)[1])
        assert one["value"] == pytest.approx(float(expected.sel(weight_decay=decay, step=one["x"])), rel=1e-6)
    page.uncheck("#choose-mean")


def test_times_chance_divides_by_the_level(opened: tuple[Page, list[str]], tree: xr.DataTree) -> None:
    page, _ = opened
    choose(page, "layer", "1")
    page.check("#choose-chance")
    layers = tree["layers"].to_dataset().isel(layer=1)
    expected = layers["agreement_score"] / layers["agreement_null"]
    for one in shown(page, "agreement_score"):
        assert one["value"] == pytest.approx(float(expected.isel(run=one["row"]).sel(step=one["x"])), rel=1e-5)
    page.uncheck("#choose-chance")


def test_runs_can_be_hidden_and_a_stretch_zoomed(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    page.locator("#rows input").first.uncheck()
    assert {one["row"] for one in shown(page, "loss")} == {1, 2, 3}
    page.get_by_role("button", name="all").click()
    page.locator("figure.panel[data-variable=loss]").scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # until nothing is drawn again
    box = page.locator("figure.panel[data-variable=loss] svg").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2)
    page.mouse.up()
    start, end = page.evaluate("panels.find((p) => p.variable.name === 'loss').zoom")
    assert 0 < start < end < 60


def test_every_variable_has_a_picture(opened: tuple[Page, list[str]], tree: xr.DataTree) -> None:
    page, heard = opened
    names = page.evaluate("REPORT.variables.map((v) => v.name)")
    before = len(heard)
    drawn: list[str] = page.evaluate(
        """() => REPORT.variables.filter((variable) => {
            const panel = new Panel({ variable: variable.name });
            panel.figure.style.width = "500px";
            document.getElementById("pictures").append(panel.figure);
            panel.draw();
            const ok = panel.figure.querySelector("svg") !== null || panel.data.length === 0;
            panel.figure.remove();
            return ok;
        }).map((variable) => variable.name)"""
    )
    assert drawn == names and len(heard) == before


def test_a_picture_is_saved_as_csv_and_svg_and_read_as_a_table(
    opened: tuple[Page, list[str]], tree: xr.DataTree
) -> None:
    page, _ = opened
    panel = page.locator("figure.panel[data-variable=stable_rank]")
    panel.scroll_into_view_if_needed()
    with page.expect_download() as download:
        panel.get_by_role("button", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    ranks = tree["layers"].to_dataset()["stable_rank"].isel(layer=1)
    assert len(rows) == ranks.size and set(rows[0]) == {"run", "step", "stable_rank"}
    assert float(rows[0]["stable_rank"]) == pytest.approx(float(ranks[0, 0]), abs=0)
    with page.expect_download() as download:
        panel.get_by_role("button", name="SVG").click()
    assert Path(download.value.path()).read_text().startswith("<svg")
    panel.locator("summary", has_text="table").click()
    expect(panel.locator("table tr")).to_have_count(min(401, ranks.size + 1))


def test_the_code_of_each_picture_draws_what_it_shows(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    codes: list[str] = page.evaluate("panels.map((panel) => { panel.draw(); return panel.code(); })")
    drawn: list[list[float]] = page.evaluate(
        "panels.map((panel) => panel.data.filter((one) => !panel.dash || one.dash === 'val').map((one) => one.value))"
    )
    for code, values in zip(codes, drawn, strict=True):
        assert len(code.splitlines()) == 3
        names: dict[str, Any] = {}
        exec(code, names)
        own = names["values"].values.ravel()
        np.testing.assert_allclose(np.sort(own[np.isfinite(own)]), np.sort(values), rtol=1e-6, err_msg=code)
        plt.close("all")


def test_it_fits_a_phone_and_paper(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    wide = "document.documentElement.scrollWidth - innerWidth"
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate(wide) <= 0
    cells = page.locator("table.settings td").evaluate_all("(all) => all.map((one) => one.offsetWidth)")
    assert min(cells) > 100, "no column is a letter wide"
    page.emulate_media(media="print")
    assert page.evaluate(wide) <= 0
    assert page.locator("#chosen").is_hidden() and page.locator("#rows").is_visible(), "what colours stand for"
    assert page.locator(".panel svg").first.is_visible()
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 1280, "height": 900})


def test_verdicts_are_a_table_that_screen_readers_phones_and_paper_have_whole(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    section = page.get_by_role("region", name="Verdicts")
    expect(section.get_by_role("columnheader")).to_have_text(
        ["claim", "verdict", "statement", "effect", "value", "90 % interval", "by chance", "seeds", "why"]
    )
    expect(section.get_by_role("rowheader")).to_have_text(["T1 v1", "W1 v1"])
    expect(section.get_by_role("row").nth(1)).to_contain_text("Exceptions: a.weight: rises.")
    expect(section).to_contain_text("C1 was not run: no lines.")
    interval = section.locator("td[data-of='90 % interval']").first
    label = "(cell) => getComputedStyle(cell, '::before').content"
    assert interval.evaluate(label) == "none", "the column has a heading"
    page.set_viewport_size({"width": 390, "height": 844})
    assert "90 % interval" in interval.evaluate(label)
    assert section.evaluate("(one) => one.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(media="print")
    assert section.is_visible() and section.get_by_text("Magnitude tickets train better.").first.is_visible()
    page.emulate_media(media="screen")


def test_a_picture_may_be_logarithmic_by_itself(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    of = "(name) => panels.find((p) => p.variable.name === name).picture.scale('y').type"
    assert (page.evaluate(of, "loss"), page.evaluate(of, "stable_rank")) == ("log", "linear")


def opened_page(page: Page, content: str, file: Path) -> Page:
    file.write_text(content)
    page.set_viewport_size({"width": 1240, "height": 4000})
    page.goto(file.as_uri())
    page.wait_for_function(FIRST_PICTURE)
    return page


@pytest.fixture
def other(opened: tuple[Page, list[str]]) -> Iterator[Page]:
    """Another page of the same browser."""
    browser = opened[0].context.browser
    assert browser is not None
    page = browser.new_page()
    yield page
    page.close()


def test_lines_begin_with_barriers_by_split_step_as_means_over_pairs_of_a_kind(other: Page, tmp_path: Path) -> None:
    data = pairs()
    page = opened_page(other, page_of(xr.DataTree(data), "memory://lines"), tmp_path / "lines.html")
    names = [text.rsplit(" (", 1)[0] for text in page.locator("#rows label").all_inner_texts()]
    assert len(names) == len(set(names)) < data.sizes["pair"] and not any("order" in name for name in names)
    drawn = [one for one in shown(page, "barrier_loss") if one["z"] in ("within", "across")]
    assert {one["z"] for one in drawn} == {"within", "across"}
    for one in drawn:
        same = (data["kind"].values == one["z"]) & (data["split_step"].values == one["x"])
        values = data["barrier_loss"].sel(split=one["dash"], kept="all").values[same]
        assert one["value"] == pytest.approx(float(values.mean()), rel=1e-5) and one["n"] == values.size
        assert (one["low"], one["high"]) == pytest.approx((float(values.min()), float(values.max())), rel=1e-5)


def test_tickets_begin_with_losses_by_density_in_a_colour_for_each_mask(other: Page, tmp_path: Path) -> None:
    data = tickets()
    page = opened_page(other, page_of(xr.DataTree(data), "memory://tickets"), tmp_path / "tickets.html")
    drawn = shown(page, "loss")
    assert {one["x"] for one in drawn} == set(data["density"].values.tolist())
    colors: dict[str, str] = page.evaluate("REPORT.axes.density.colors")
    assert set(colors) == {one["z"] for one in drawn} and len(set(colors.values())) == len(colors)
    last = data["loss"].isel(step=-1)
    for one in drawn:
        mask, rewind = one["z"].split(", rewind step ")
        same = (data["mask"].values == mask) & (data["density"].values == one["x"])
        values = last.sel(split=one["dash"]).values[same & (data["rewind_step"].values == int(rewind))]
        assert one["value"] == pytest.approx(float(values.mean()), rel=1e-5)


@pytest.mark.parametrize("made", [pairs, tickets])
def test_every_variable_of_lines_and_tickets_has_a_picture(
    made: Callable[[], xr.Dataset], other: Page, tmp_path: Path
) -> None:
    data = made()
    page = opened_page(other, page_of(xr.DataTree(data), "memory://made"), tmp_path / "made.html")
    without: list[str] = page.evaluate(
        """() => REPORT.variables.filter((variable) => {
            const panel = add({ variable: variable.name }, true);
            panel.draw();
            return panel.figure.querySelector("svg") === null;
        }).map((variable) => variable.name)"""
    )
    assert without == [] and page.evaluate("REPORT.variables.length") == len(data.data_vars)


def test_a_page_without_values_says_so_and_has_no_controls(tree: xr.DataTree) -> None:
    empty = tree.map_over_datasets(lambda data: data.isel(run=[]) if "run" in data.dims else data)
    content = page_of(empty, "memory://planned", whole=tree)
    assert "0 runs" in content and "<script>" not in content and 'id="bar"' not in content
    assert "<td>none</td>" not in content.partition("Optimizer")[2].partition("clip norm")[0]


def test_names_of_layers_do_not_overlap(other: Page, tmp_path: Path) -> None:
    page = opened_page(other, page_of(xr.DataTree(pairs()), "memory://lines"), tmp_path / "names.html")
    ticks = page.evaluate(
        """() => {
            const panel = new Panel({ variable: "agreement_score", x: "layer" });
            document.getElementById("pictures").append(panel.figure);
            panel.draw();
            return [...panel.figure.querySelectorAll("[aria-label='x-axis tick label'] text")].map((one) => {
                const box = one.getBoundingClientRect();
                return [box.left, box.right, one.textContent];
            });
        }"""
    )
    assert [name for *_, name in ticks] == [str(name).removesuffix(".weight") for name in pairs()["layer"].values]
    assert all(end <= begin for (_, end, _), (begin, _, _) in itertools.pairwise(ticks))


def test_a_picture_without_any_value_is_not_among_the_first(opened: tuple[Page, list[str]], tree: xr.DataTree) -> None:
    page, _ = opened
    empty = [name for name, of in tree["layers"].to_dataset().data_vars.items() if not bool(of.notnull().any())]
    assert "power_law_alpha" in empty, "no layer of this network has enough values"
    assert not set(page.evaluate("panels.map((panel) => panel.variable.name)")) & set(empty)
