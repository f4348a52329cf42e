"""`specdyn explore`: what it refuses, the notebook that it writes, and the app in a real browser until Ctrl-C."""

import base64
import importlib.util
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import specdyn as sd
from helpers.browsing import browser_page, browser_program
from specdyn.flows.cli.app import app
from specdyn.storage.probe import require_store
from specdyn.tasks.plan.sweeps import make_sweep

STUDY = "modular_addition-smoke-steps=20"
MARIMO = importlib.util.find_spec("marimo") is not None
needs_marimo = pytest.mark.skipif(not MARIMO, reason="marimo is not installed: pip install 'specdyn[explore]'")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    store = str(tmp_path_factory.mktemp("explore") / "it's")
    sd.run("modular_addition", "smoke", store=store, weight_decay=[0.0, 1.0], steps=20)
    return store


def said(*arguments: str, code: int = 2) -> str:
    result = CliRunner().invoke(app, ["explore", *arguments], env={"COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_without_marimo_it_says_in_a_line_what_to_install(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if MARIMO:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert said(STUDY, "--store", store) == "error: specdyn explore needs marimo: pip install 'specdyn[explore]'"


def test_an_unknown_study_and_one_without_values_are_refused(tmp_path: Path, store: str) -> None:
    assert f"its studies are: {STUDY}" in said("typo", "--store", store)
    empty = require_store(str(tmp_path / "empty"))
    make_sweep("modular_addition", "smoke", [0.0], [0], sweep="planned").record(empty)
    assert "planned" in said("planned", "--store", empty.url)


def test_the_notebook_is_of_the_study_and_replaces_no_file(tmp_path: Path, store: str) -> None:
    file = tmp_path / "mine.py"
    assert said(STUDY, "--store", store, "--notebook", str(file), code=0) == f"notebook {file}"
    source = file.read_text()
    assert f"STORE = {store!r}" in source and f"STUDY = {STUDY!r}" in source
    compile(source, str(file), "exec")
    assert "expected a file that does not exist yet" in said(STUDY, "--store", store, "--notebook", str(file))
    assert file.read_text() == source


def test_the_table_of_a_study_takes_no_torch(store: str) -> None:
    code = f"import sys, specdyn as sd; print(len(sd.table(sd.open({store!r}, {STUDY!r}))), 'torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["12", "False"]  # six layers of two runs


@needs_marimo
def test_a_port_that_is_taken_is_named(store: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"--port {port} on 127.0.0.1" in said(STUDY, "--store", store, "--port", port, "--no-browser")


@needs_marimo
def test_a_browser_shows_it_and_it_asks_no_other_address_and_ends_on_ctrl_c(store: str, tmp_path: Path) -> None:
    program = browser_program()
    if program is None:
        pytest.skip("there is no Chromium or Chrome on this machine")
    command = [sys.executable, "-m", "specdyn", "explore", STUDY, "--store", store, "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path) as served:
        try:
            assert served.stdout is not None
            found = re.search(r"http://(127\.0\.0\.1:\d+)", served.stdout.readline())
            assert found is not None
            asked: list[str] = []
            with browser_page(program) as page:
                page.on("request", lambda one: asked.append(one.url))
                page.goto(found[0], wait_until="commit")
                first = page.locator("img[alt='first picture']")
                first.wait_for()
                drawn = base64.b64decode(str(first.get_attribute("src")).partition("base64,")[2])
                heat_map = page.locator("img[alt='heat map']")
                heat_map.wait_for()
                first.wait_for(state="detached")
                assert page.request.get(f"{found[0]}/{heat_map.get_attribute('src')}").body() == drawn
                page.locator("img[alt='curves']").wait_for()
                page.get_by_text("decoder.weight").first.wait_for()
                before = heat_map.get_attribute("src")
                page.get_by_role("slider").first.press("ArrowLeft")
                page.wait_for_function(
                    "(before) => document.querySelector(\"img[alt='heat map']\").src !== before", arg=before
                )
                served.send_signal(signal.SIGINT)  # while the page is open
                assert served.wait(60) == 0
            others = [url for url in asked if found[1] not in url and not url.startswith(("data:", "blob:"))]
            assert others == []
            assert list(tmp_path.iterdir()) == []
        finally:
            served.kill()
