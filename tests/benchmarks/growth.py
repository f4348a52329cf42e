"""What a cube costs as it grows: adding one run, opening it, and two questions, on an S3 server 20 ms away.

Runs compute nothing: all share the results of one run of two blocks, each under its own key and seed, so that what is
measured is the cube alone. `python -m tests.benchmarks.growth` prints the table, 10 to 10,000 runs; `make bench` has
the first and the third line of it.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # helpers of tests import one another by this

from helpers.cubes import layout_of, values_of, write_cube, write_row
from helpers.fault_proxy import FaultProxy
from specdyn.storage.places import Store
from specdyn.storage.query import open_results
from specdyn.storage.rows import Row
from tests.benchmarks.measured import slow_server, table

RUNS = (10, 100, 1000, 10_000)
SECONDS = 0.02
"""That the server takes for a request."""
SHAPES = {f"layer{i}": (64, 64) for i in range(4)}
HEADINGS = ("runs", "add one run", "open", "effective rank of one weight decay", "top 10 of a layer, all runs")


def rows_of(store: Store, count: int) -> list[Row]:
    """That many runs, at ten weight decays."""
    layout = layout_of(steps=(0, 10), shapes=SHAPES, run_id="same")
    model = write_row(store, layout, values_of(layout))
    settings = [{"weight_decay": (i % 10) / 10, "seed": i // 10} for i in range(count)]
    return [
        dataclasses.replace(model, key=f"run{i:05d}", coordinates=one, settings=one) for i, one in enumerate(settings)
    ]


def measured(proxy: FaultProxy, call: Callable[[], object]) -> str:
    """Seconds, requests and bytes of a call."""
    proxy.forget()
    with proxy.failing(latency=SECONDS):
        since = time.perf_counter()
        call()
        seconds = time.perf_counter() - since
    return f"{seconds:.2f} s, {proxy.count} requests, {(proxy.received + proxy.sent) / 1e6:.2f} MB"


def growth(proxy: FaultProxy, store: Store, count: int) -> tuple[str, ...]:
    """One line of the table."""
    url, rows = store.cube(f"of{count}"), rows_of(store, count + 1)
    write_cube(url, rows[:-1])
    added = measured(proxy, lambda: write_cube(url, rows))
    opened = measured(proxy, lambda: open_results(url))
    layers = open_results(url)["layers"].to_dataset()
    one = measured(proxy, lambda: layers.effective_rank.sel(run=layers.weight_decay == 0.5).load())
    top = measured(proxy, lambda: layers.singular_value.sel(layer="layer2", rank=slice(1, 10)).load())
    return str(count), added, opened, one, top


def lines(counts: Sequence[int]) -> list[tuple[str, ...]]:
    """The table, on a server of its own."""
    with slow_server() as (proxy, server):
        return [growth(proxy, Store(server.fresh_store()), count) for count in counts]


def rows() -> list[tuple[str, str, str, str, str]]:
    """For `make bench`: adding a run to a large cube beside adding it to a small one."""
    (_, small, *_), (_, large, *_) = lines((10, 1000))
    ratio = float(small.split()[0]) / float(large.split()[0])
    how = "a run added to a cube of 10 runs (plain) and of 1,000 (ours), S3 20 ms away"
    return [("adding a run", small, large, f"{ratio:.2f}x", how)]


def main() -> None:
    """Print the whole table."""
    table("A cube that grows, S3 20 ms away", HEADINGS, lines(RUNS))


if __name__ == "__main__":
    main()
