"""`specdyn explore`: a marimo app on the results of a study, served on this machine."""

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
from pathlib import Path

from specdyn.models.spec.checks import require
from specdyn.storage.access import objects
from specdyn.storage.probe import existing_store
from specdyn.storage.query import measured_runs, open_study
from specdyn.tasks.figures.explore import views

HOST = "127.0.0.1"
STOP_SECONDS = 1
"""For answers that are on their way when the app is stopped."""
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
    views.offered(measured_runs(open_study(url, study)))
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
        app.write_text(source, encoding="utf-8")
        threading.Thread(target=_warm_up, args=(url, study), daemon=True).start()
        _serve(app, port, browser, say)
    sys.stdout.flush()
    os._exit(0)  # threads of open pages would wait for their browsers


def _warm_up(store: str, study: str) -> None:
    """Draw the first picture and the table once, while the browser loads the page: what they import is there then."""
    import specdyn as sd
    from specdyn.tasks.figures.style import to_screen

    with contextlib.suppress(ValueError, KeyError, objects.StoreError):  # the app says what is wrong
        tree = measured_runs(open_study(store, study))
        group, (name, *_) = next(iter(views.offered(tree).items()))
        data = views.lazy(tree, group, name)
        along, upward = next(iter(views.axes(data)), ""), views.upwards(data)[0]
        values = views.read(data, [0], {}, (along, upward))
        to_screen(views.heat_map(tree, values, list(views.rows(tree)), upward, {}))
        sd.table(views.chosen_rows(tree, [0]))


def _serve(app: Path, port: int, browser: bool, say: Callable[[str], None]) -> None:
    import marimo
    import uvicorn

    try:
        listening = socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"port={port} on {HOST}: {why}; choose another, or 0 for a free one") from None
    with listening:
        url = f"http://{HOST}:{listening.getsockname()[1]}"
        served = marimo.create_asgi_app(quiet=True).with_app(path="/", root=str(app)).build()
        config = uvicorn.Config(served, log_config=None, access_log=False, timeout_graceful_shutdown=STOP_SECONDS)
        say(f"explore      {url}  (Ctrl-C ends it)")
        if browser:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        uvicorn.Server(config).run([listening])
