"""`specdyn explore`: serves a marimo app on the results of a study on this machine."""

import base64
import contextlib
import importlib.util
import os
import signal
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from specdyn.flows.service.listening import listen
from specdyn.models.spec.checks import require
from specdyn.storage.access import objects
from specdyn.storage.probe import existing_store
from specdyn.storage.query import measured_runs, open_study
from specdyn.tasks.figures.explore import views

if TYPE_CHECKING:
    import xarray as xr

HOST = "127.0.0.1"
STOP_SECONDS = 1
"""Seconds to finish pending responses when the app is stopped."""
HEAD = "first.html"
HEADED = ("marimo.App(", f"marimo.App(html_head_file={HEAD!r}, ")
"""Replacement that adds a head to the served app, which shows its first picture early."""
FIRST_PICTURE = """<style>
#first-picture { position: absolute; top: 205px; left: 100px; max-width: 85vw; pointer-events: none; }
</style>
<script>
const first = Object.assign(new Image(), {id: "first-picture", alt: "first picture", width: WIDTH, src: "SOURCE"});
const show = () => document.body ? document.body.prepend(first) : requestAnimationFrame(show);
const gone = () => { first.remove(); watching.disconnect(); };
const shown = () => document.querySelector("img[alt='heat map']") && gone();
const watching = new MutationObserver(shown);
watching.observe(document, {childList: true, subtree: true});
setTimeout(gone, 30000);
show();
</script>
"""
"""Shows a first picture at its place in the app until the app shows its own, or for half a minute."""
STARTS = ('STORE = "results"', 'STUDY = "modular_addition-demo"')
"""Lines of the packaged notebook that set the study."""


def notebook(store: str, study: str) -> str:
    """The source of the app for a study."""
    source = (Path(views.__file__).parent / "notebook.py").read_text(encoding="utf-8")
    for line, value in zip(STARTS, (store, study), strict=True):
        assert source.count(line) == 1
        source = source.replace(line, f"{line.partition(' = ')[0]} = {value!r}")
    return source


def explore(study: str, store: str, port: int, browser: bool, file: str | None, say: Callable[[str], None]) -> None:
    """Serve the app until Ctrl-C, or write it to a file.

    ValueError or StoreError if the study is unknown or has no values, the port is taken, the file exists
    already, or marimo is not installed.
    """
    url = existing_store(store).url
    if file is not None:
        written = objects.normalise(file)
        require(written.endswith(".py") and not os.path.isdir(written), "notebook", file, "the name of a .py file")
        objects.require_writable(written.rsplit("/", 1)[0])
        require(not objects.exists(written), "notebook", file, "a file that does not exist yet")
    tree = measured_runs(open_study(url, study))
    views.offered(tree)
    source = notebook(url, study)
    if file is not None:
        objects.write(written, source.encode())
        say(f"notebook     {written}")
        return
    if importlib.util.find_spec("marimo") is None:
        raise ValueError("specdyn explore needs marimo: pip install 'specdyn[explore]'")
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with contextlib.suppress(KeyboardInterrupt), tempfile.TemporaryDirectory(prefix="specdyn-explore-") as folder:
        app = Path(folder) / "explore.py"
        app.write_text(source.replace(*HEADED), encoding="utf-8")
        head = Path(folder) / HEAD
        head.touch()
        warming = threading.Thread(target=_warm_up, args=(tree, head), daemon=True)
        warming.start()
        _serve(app, port, browser, warming, say)
    sys.stdout.flush()
    os._exit(0)  # threads that serve open pages would wait for the browsers


def _warm_up(tree: "xr.DataTree", head: Path) -> None:
    """Draw the first pictures and the table once, so that their imports are done when the page requests them.

    The first picture goes into the head of the page, visible while the browser loads the app.
    """
    import specdyn as sd
    from specdyn.tasks.figures.style import to_screen

    with contextlib.suppress(ValueError, KeyError, objects.StoreError):  # the app reports the error
        values, heat_map, curves = views.first_choice(tree)
        source = f"data:image/png;base64,{base64.b64encode(to_screen(heat_map)).decode()}"
        to_screen(curves)
        sd.table(views.chosen_rows(tree, range(values.shape[0])))
        width = str(int(144 * heat_map.get_figwidth()))  # as in the notebook
        head.write_text(FIRST_PICTURE.replace("SOURCE", source).replace("WIDTH", width), encoding="utf-8")


def _serve(app: Path, port: int, browser: bool, warming: threading.Thread, say: Callable[[str], None]) -> None:
    import marimo
    import uvicorn

    with _listen(port) as listening:
        served = marimo.create_asgi_app(quiet=True).with_app(path="/", root=str(app)).build()
        config = uvicorn.Config(served, log_config=None, access_log=False, timeout_graceful_shutdown=STOP_SECONDS)
        announcing = (listening.getsockname()[1], browser, warming, say)
        threading.Thread(target=_announce, args=announcing, daemon=True).start()
        uvicorn.Server(config).run([listening])


def _listen(port: int) -> socket.socket:
    """A socket that listens on a port of this machine, a free one for 0; ValueError if it is taken or invalid."""
    try:
        return listen(HOST, port)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"port={port} on {HOST}: {why}; choose another, or 0 for a free one") from None


def _announce(port: int, browser: bool, warming: threading.Thread, say: Callable[[str], None]) -> None:
    """Print the app's URL and open it, once everything is warmed up."""
    warming.join()
    with contextlib.suppress(OSError, HTTPException), contextlib.closing(HTTPConnection(HOST, port)) as asking:
        asking.request("GET", "/")
        asking.getresponse().read()
    say(f"explore      http://{HOST}:{port}  (Ctrl-C ends it)")
    if browser:
        webbrowser.open(f"http://{HOST}:{port}")
