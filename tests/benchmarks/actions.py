"""Requests, bytes and milliseconds of each thing that one does with a sweep, on an S3 server 20 ms away.

Train a run, analyse it, add it to the cube; then the sweep's status, opening it, and three questions.
`python -m tests.benchmarks.actions`; with `--mlflow PYTHON`, an interpreter that has MLflow, the same values are put
into an MLflow server 20 ms away, as many as two minutes allow, and asked for again.
"""

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # helpers of tests import one another by this

from helpers.analysed import train
from helpers.fault_proxy import FaultProxy, fault_proxy
from helpers.many_runs import SPEC, put_copies, seeds_of
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.tasks.plan.gathering import gather
from specdyn.tasks.plan.here import ThisProcess
from specdyn.tasks.plan.runs import analyse_run, train_whole
from specdyn.tasks.plan.sweeps import Sweep
from specdyn.tasks.spectra.analysis import default_analyses
from tests.benchmarks.measured import slow_server, table

RUNS = 32
SECONDS = 0.02
"""That the server takes for a request."""
LAYER = "decoder.weight"
ACTIONS = (
    "train a run (3 checkpoints)",
    "analyse it (all usual analyses)",
    "add it to the cube",
    "status",
    "open",
    "effective rank of one weight decay",
    "top 10 singular values of a layer, all runs",
    "loss of all runs",
)
HEADINGS = ("action", "requests", "sent and received", "time")
Taken = tuple[int, int, float]
"""Requests, bytes and seconds."""


def sweep_of(runs: int, analyses: Sequence[str] = ()) -> Sweep:
    """That many seeds, with these analyses or the usual ones."""
    return Sweep(
        name="actions",
        experiment=SPEC.experiment,
        preset="smoke",
        specs=tuple(seeds_of(SPEC, runs)),
        analyses=tuple(analyses or default_analyses()),
    )


def actions(
    proxy: FaultProxy, store: Store, runs: int = RUNS, seconds: float = SECONDS, analyses: Sequence[str] = ()
) -> dict[str, Taken]:
    """What each action takes on a store that has a sweep of so many runs, to which one is added."""
    before, after = sweep_of(runs, analyses), sweep_of(runs + 1, analyses)
    _analysed(before.specs[0], before, store)
    put_copies(before.specs[0], before.specs[1:], store)
    before.record(store)
    gather(before, store, report=False)
    taken: dict[str, Taken] = {}

    def measure(name: str, call: Callable[[], object]) -> None:
        proxy.forget()
        with proxy.failing(latency=seconds):
            since = time.perf_counter()
            call()
            taken[name] = proxy.count, proxy.received + proxy.sent, time.perf_counter() - since

    new, names = after.specs[-1], iter(ACTIONS)
    measure(next(names), lambda: train_whole(new, store, after.cube(store)))
    analysis = (new, after.analyses, store, after.cube(store))
    measure(next(names), lambda: analyse_run(ThisProcess(), lambda _: None, *analysis))
    after.record(store)
    measure(next(names), lambda: gather(after, store, report=False))
    measure(next(names), lambda: after.items(store, whole=False))
    measure(next(names), lambda: open_results(store.cube(after.name)))
    tree = open_results(store.cube(after.name))
    layers, metrics = tree["layers"].to_dataset(), tree["metrics"].to_dataset()
    measure(next(names), lambda: layers.effective_rank.sel(run=layers.weight_decay == 0.0).load())
    measure(next(names), lambda: layers.singular_value.sel(layer=LAYER, rank=slice(1, 10)).load())
    measure(next(names), metrics.loss.load)
    assert layers.sizes["run"] == runs + 1 and not next(names, None)
    return taken


def _analysed(spec: RunSpec, sweep: Sweep, store: Store) -> None:
    train(spec, store.url)
    analyse_run(ThisProcess(), lambda _: None, spec, sweep.analyses, store, sweep.cube(store))


def lines(taken: dict[str, Taken]) -> list[tuple[str, ...]]:
    """The table."""
    return [
        (name, f"{requests:,}", f"{size / 1e3:.0f} kB", f"{1000 * seconds:.0f} ms")
        for name, (requests, size, seconds) in taken.items()
    ]


def rows() -> list[tuple[str, ...]]:
    """For `make bench`: the time of an action beside the least that its requests take one after another."""
    with slow_server() as (proxy, server):
        taken = actions(proxy, Store(server.fresh_store()))
    return [
        (name, f"{1000 * SECONDS * n:.0f} ms", f"{1000 * s:.0f} ms", "", f"{n} requests of 20 ms, and our time")
        for name, (n, _, s) in taken.items()
    ]


def main(arguments: Sequence[str]) -> None:
    """Print the table, and MLflow's beside it."""
    with contextlib.ExitStack() as stack:
        proxy, server = stack.enter_context(slow_server())
        store = Store(server.fresh_store())
        table(f"A sweep of {RUNS} runs, S3 20 ms away", HEADINGS, lines(actions(proxy, store)))
        if "--mlflow" in arguments:
            from tests.benchmarks.beside_mlflow import HEADINGS as MLFLOW_HEADINGS
            from tests.benchmarks.beside_mlflow import compared

            python = arguments[arguments.index("--mlflow") + 1]
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            with proxy.failing(latency=SECONDS):
                beside = compared(_slow, store.cube(sweep_of(1).name), LAYER, python, folder)
            table("The same values in MLflow, 20 ms away", MLFLOW_HEADINGS, beside)


@contextlib.contextmanager
def _slow(server: str) -> Iterator[str]:
    """The address of a proxy before a server, which takes as long for a request."""
    with fault_proxy(server) as proxy:
        proxy.faults(latency=SECONDS)
        yield proxy.endpoint


if __name__ == "__main__":
    main(sys.argv[1:])
