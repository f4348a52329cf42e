"""The same values in MLflow, over HTTP: put as metrics of runs, and asked for by its own client.

MLflow is no dependency: its client runs in an interpreter of its own (this file as a program), and so does its server,
with a SQLite database, behind the same proxy that takes 20 ms for a request.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS_OF_PUTTING = 120.0
START_SECONDS = 300.0
HEADINGS = ("what", "values", "MLflow", "ours", "MLflow / ours, by value")
LARGEST = 1000
"""Values that MLflow takes with one request."""


def values_of(url: str, layer: str) -> dict[str, list[tuple[str, int, float]]]:
    """Name, step and value of what the three questions are about, by run."""
    from specdyn.storage.query import open_results

    tree = open_results(url)
    layers = tree["layers"].to_dataset()[["effective_rank", "singular_value"]].load()
    metrics = tree["metrics"].to_dataset()[["loss"]].load()
    found: dict[str, list[tuple[str, int, float]]] = {}
    for run in layers["run"].values.tolist():
        mine, one = layers.sel(run=run), found.setdefault(run, [])
        for step in layers["step"].values.tolist():
            at = mine.sel(step=step)
            one += [
                (f"effective_rank/{name}", step, float(at.effective_rank.sel(layer=name)))
                for name in layers["layer"].values.tolist()
            ]
            one += [
                (f"singular_value/{rank}", step, float(at.singular_value.sel(layer=layer, rank=rank)))
                for rank in range(1, 11)
            ]
            losses = metrics.loss.sel(run=run, step=step)
            one += [(f"loss/{split}", step, float(losses.sel(split=split))) for split in ("train", "val")]
    return found


def compared(proxy_of: Callable[[str], Any], url: str, layer: str, python: str, folder: Path) -> list[tuple[str, ...]]:
    """Put and ask; `proxy_of` gives a proxy before a server. The lines of a table."""
    from specdyn.storage.query import open_results

    values = folder / "values.json"
    values.write_text(json.dumps(values_of(url, layer)))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    database = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        f"{folder}/artifacts",
    ]
    command = [
        python,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        *database,
    ]
    plain = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    plain["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # its seven further processes have nothing to do here
    with (
        (folder / "mlflow.log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, env=plain, stdout=log, stderr=log, start_new_session=True) as server,
    ):
        try:
            _wait(f"http://127.0.0.1:{port}/health", server, folder / "mlflow.log")
            with proxy_of(f"http://127.0.0.1:{port}") as endpoint:
                asked = [python, __file__, endpoint, str(values)]
                done = subprocess.run(asked, cwd=folder, env=plain, stdout=subprocess.PIPE, text=True, check=True)
        finally:
            os.killpg(server.pid, 15)
    theirs = json.loads(done.stdout.splitlines()[-1])
    tree = open_results(url)
    layers, metrics = tree["layers"].to_dataset(), tree["metrics"].to_dataset()
    questions: dict[str, Callable[[], Any]] = {
        "effective rank of one weight decay": lambda: layers.effective_rank.sel(run=layers.weight_decay == 0.0).load(),
        "top 10 of a layer, all runs": lambda: layers.singular_value.sel(layer=layer, rank=slice(1, 10)).load(),
        "loss of all runs": metrics.loss.load,
    }
    lines = []
    for name, question in questions.items():
        since = time.perf_counter()
        size = question().size
        ours = time.perf_counter() - since
        seconds, count = theirs[name]
        ratio = (seconds / count) / (ours / size)
        lines.append((name, f"{count:,} and {size:,}", f"{seconds:.2f} s", f"{ours:.2f} s", f"{ratio:.0f}x"))
    seconds, count = theirs["put"]
    lines.append(("put", f"{count:,}", f"{seconds:.1f} s", "", f"{1000 * seconds / count:.2f} ms a value"))
    return lines


def _wait(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < end, f"MLflow did not start:\n{log.read_text()}"
            time.sleep(0.5)


def client(endpoint: str, values: dict[str, list[tuple[str, int, float]]]) -> dict[str, tuple[float, int]]:
    """Seconds and values of putting, and of each question; runs where MLflow is."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    mlflow = MlflowClient(endpoint)
    experiment = mlflow.create_experiment("the same values")
    put, since, runs = 0, time.perf_counter(), {}
    for name, found in values.items():
        if time.perf_counter() - since > SECONDS_OF_PUTTING:
            break
        run = mlflow.create_run(experiment, run_name=name).info.run_id
        runs[name] = run
        mlflow.log_batch(run, params=[Param("weight_decay", "0.0")])
        for start in range(0, len(found), LARGEST):
            batch = [Metric(key, value, 0, step) for key, step, value in found[start : start + LARGEST]]
            mlflow.log_batch(run, metrics=batch)
            put += len(batch)
    said: dict[str, tuple[float, int]] = {"put": (time.perf_counter() - since, put)}
    names = {key for found in values.values() for key, _, _ in found}
    for question, prefix in (
        ("effective rank of one weight decay", "effective_rank/"),
        ("top 10 of a layer, all runs", "singular_value/"),
        ("loss of all runs", "loss/"),
    ):
        since, count = time.perf_counter(), 0
        for run in mlflow.search_runs([experiment], "params.weight_decay = '0.0'", max_results=10_000):
            for key in names:
                if key.startswith(prefix):
                    count += len(mlflow.get_metric_history(run.info.run_id, key))
        said[question] = time.perf_counter() - since, count
    return said


if __name__ == "__main__":
    print(json.dumps(client(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))))
