"""`specdyn explore`: a marimo app on the results of a study, served on this machine."""

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

from specdyn.models.spec.checks import require
from specdyn.storage.access import objects
from specdyn.storage.probe import existing_store
from specdyn.storage.query import measured_runs, open_study
from specdyn.tasks.figures.explore import views

if TYPE_CHECKING:
    import xarray as xr

HOST = "127.0.0.1"
STOP_SECONDS = 1
"""For answers that are on their way when the app is stopped."""
HEAD = "first.html"
HEADED = ("marimo.App(", f"marimo.App(html_head_file={HEAD!r}, ")
"""What the app that is served has besides the notebook: a head that shows its first picture."""
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
"""Of the page, where the app has its own picture; it goes once that one is shown, or has not been in half a minute."""
STARTS = ('STORE = "results"', 'STUDY = "modular_addition-demo"')
"""Lines of the notebook in the package that say which study it is of."""


def notebook(store: str, study: str) -> str:
    """The source of the app on a study."""
    source = (Path(views.__file__).parent / "notebook.py").read_text(encoding="utf-8")
    for line, value in zip(STARTS, (store, study), strict=True):
        assert source.count(line) == 1
        source = source.replace(line, f"{line.partition(' = ')[0]} = {value!r}")
    return source


def explore(study: str, store: str, port: int, browser: bool, file: str | None, say: Callable[[str], None]) -> None:
    """Serve the app until Ctrl-C, or write it to a file.

    ValueError or StoreError where the study is not known or has no values, the port is taken, the file is there
    already, or marimo is not installed.
    """
    url = existing_store(store).url
    if file is not None:
        written = objects.normalise(file)
        require(written.endswith(".py") and not os.path.isdir(written), "notebook", file, "the name of a .py file")
        objects.require_writable(written.rsplit("/", 1)[0])
        require(not objects.exists(written), "notebook", file, "a file that is not there yet")
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
    os._exit(0)  # threads of open pages would wait for their browsers


def _warm_up(tree: "xr.DataTree", head: Path) -> None:
    """Draw the first pictures and the table once: what they import is there when the page asks for them.

    The first picture goes into the head of the page, to be seen while the browser loads the app.
    """
    import specdyn as sd
    from specdyn.tasks.figures.style import to_screen

    with contextlib.suppress(ValueError, KeyError, objects.StoreError):  # the app says what is wrong
        values, heat_map, curves = views.first_choice(tree)
        source = f"data:image/png;base64,{base64.b64encode(to_screen(heat_map)).decode()}"
        to_screen(curves)
        sd.table(views.chosen_rows(tree, range(values.shape[0])))
        width = str(int(144 * heat_map.get_figwidth()))  # as the notebook has it
        head.write_text(FIRST_PICTURE.replace("SOURCE", source).replace("WIDTH", width), encoding="utf-8")


def _serve(app: Path, port: int, browser: bool, warming: threading.Thread, say: Callable[[str], None]) -> None:
    import marimo
    import uvicorn

    with listen(port) as listening:
        served = marimo.create_asgi_app(quiet=True).with_app(path="/", root=str(app)).build()
        config = uvicorn.Config(served, log_config=None, access_log=False, timeout_graceful_shutdown=STOP_SECONDS)
        announcing = (listening.getsockname()[1], browser, warming, say)
        threading.Thread(target=_announce, args=announcing, daemon=True).start()
        uvicorn.Server(config).run([listening])


def listen(port: int) -> socket.socket:
    """A socket that listens on a port of this machine, a free one for 0; ValueError where it is taken or no port."""
    try:
        listening = socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"port={port} on {HOST}: {why}; choose another, or 0 for a free one") from None
    # Python's loop sets this only on sockets that it opens itself. Without it the body of each answer waits 40 ms for
    # the receipt of its head, and a page is 300 of them.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _announce(port: int, browser: bool, warming: threading.Thread, say: Callable[[str], None]) -> None:
    """Say where the app is, and open it, once its page and its pictures take no longer the first time than later."""
    warming.join()
    with contextlib.suppress(OSError, HTTPException), contextlib.closing(HTTPConnection(HOST, port)) as asking:
        asking.request("GET", "/")
        asking.getresponse().read()
    say(f"explore      http://{HOST}:{port}  (Ctrl-C ends it)")
    if browser:
        webbrowser.open(f"http://{HOST}:{port}")
