"""`make bench`: our ways against the plain ones, side by side in one run on this machine."""

from rich.console import Console
from rich.table import Table

import specdyn.flows  # noqa: F401 - sets what Prefect and Ray read at import
from tests.benchmarks import actions, analysis, fanout, growth, one_more, spectra, training, verification, workers

HEADINGS = ("what", "plain", "ours", "ratio", "how it was measured")


def main() -> None:
    """Run the benchmarks and print a table."""
    out = Console()
    table = Table(*HEADINGS)
    for benchmark in (
        analysis,
        spectra,
        training,
        fanout,
        workers,
        verification,
        growth,
        one_more,
        actions,
    ):
        for row in benchmark.rows():
            table.add_row(*row)
    out.print(table)


if __name__ == "__main__":
    main()
