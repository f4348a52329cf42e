"""The benchmark of GPUs in its short form on the CPU: every part of it runs, so that the first GPU finds it working."""

import math
import re

import pytest
import torch

from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.experiments.base import get_experiment
from specdyn.tasks.spectra.decomposition import decompose
from tests.benchmarks.gpu import __main__ as gpu
from tests.benchmarks.gpu import drivers, graphs, kernels, machine, paper, shares, steps
from tests.benchmarks.gpu.machine import Budget, Table
from tests.reference.networks import NETWORKS, build, checkpoint

CPU = torch.device("cpu")


def by_heading(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.headings, row, strict=True)) for row in table.rows]


def test_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "NETWORKS", {name: NETWORKS[name] for name in ("modular addition", "BiLSTM")})
    kept: list[int] = []
    table = kernels.measure(CPU, True, Budget(200), lambda table: kept.append(len(table.rows)))
    assert (table.left_out, kept) == ([], [1, 2])
    addition, bilstm = by_heading(table)
    assert (addition["decompositions"], bilstm["decompositions"]) == ("28 -> 11", "93 -> 25")
    for row in (addition, bilstm):
        assert all(float(row[way]) >= 0 for way in ("published, s", "one pass, s", "vectors, s", "values, s"))
        assert float(row["worst departure"].split()[0]) < 2e-6


def test_departures_find_a_wrong_value() -> None:
    net, body = build("modular addition", miniature=True)
    weights = checkpoint(net, 0.1, 1)
    factors = {layer.name: decompose(layer.of(weights)) for layer in body.layers}
    name = body.layers[0].name
    factors[name] = factors[name]._replace(s=factors[name].s * 1.001)
    assert kernels.departures(body, weights, weights, factors)[0] == pytest.approx(1e-3, rel=0.01)


def test_training_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "experiment_names", lambda: ["language_modelling", "modular_addition"])
    table = steps.measure(CPU, True, Budget(200))
    assert [row["experiment"] for row in by_heading(table)] == ["modular_addition", "language_modelling"]
    for row in by_heading(table):
        assert all(float(row[way]) > 0 for way in ("as it is, steps/s", "TF32", "bfloat16", "plain loop"))
        assert row["compiled"] == "-"
    assert [reason.split(",")[0] for reason in table.left_out] == [
        "compiled modular_addition",
        "compiled language_modelling",
    ]


def test_ways_to_decompose() -> None:
    table = drivers.measure(CPU, True, Budget(200))
    rows = by_heading(table)
    assert table.left_out == []
    assert [row["shape"] for row in rows] == ["1 x 16 x 16"] * 4 + ["4 x 24 x 8"] * 4
    for shape in ("1 x 16 x 16", "4 x 24 x 8"):
        assert "yes" in [row["fastest"] for row in rows if row["shape"] == shape]
    assert all(float(row["worst departure"].split()[0]) < 2e-6 for row in rows)


def test_runs_that_share_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "TOGETHER", (1, 2))
    table = shares.measure(CPU, True, Budget(200))
    one, two = by_heading(table)
    assert table.left_out == []
    assert float(one["steps/s of each"]) > 0 and len(two["steps/s of each"].split(", ")) == 2
    assert shares.at_once(1, True, 0.1, 0.01) == []  # ended in time


def test_graphs_are_of_full_batches_on_a_gpu() -> None:
    full = get_experiment("modular_addition").preset("paper").spec
    assert graphs.fits(full) and not graphs.fits(get_experiment("image_classification").preset("smoke").spec)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA graphs need a GPU, and the data is on the cpu"):
            graphs.graph_steps(full, Examples(torch.zeros(2, 3), torch.zeros(2)))


def test_networks_of_the_paper_are_trained_where_there_is_time() -> None:
    paper_spec = get_experiment("image_classification").preset("paper").spec
    chosen = steps.chosen("image_classification", short=False)
    assert (chosen.net, chosen.batch_size) == (paper_spec.net, paper_spec.batch_size)
    assert steps.chosen("modular_addition", short=False) == get_experiment("modular_addition").preset("paper").spec


def test_the_papers_run() -> None:
    table = paper.measure(CPU, True, Budget(200), weight_decay=1.0)
    (row,) = by_heading(table)
    assert table.left_out == []
    assert [row[name] for name in ("weight decay", "steps", "checkpoints", "analysed")] == ["1", "60", "7", "7"]
    net = get_experiment("modular_addition").net(get_experiment("modular_addition").preset("smoke").spec)
    ranks = []
    for w in (p.detach().double() for p in net.parameters() if p.ndim == 2):
        p = torch.linalg.svdvals(w) / torch.linalg.svdvals(w).sum()
        ranks.append(float(torch.exp(-(p * p.log()).sum())) / len(p))
    assert float(row["effective rank, start"]) == pytest.approx(sum(ranks) / len(ranks), abs=6e-4)


def test_a_run_is_as_long_as_there_is_time_for() -> None:
    spec = get_experiment("modular_addition").preset("smoke").spec
    assert paper.steps_that_fit(spec, CPU, Budget(0), short=False) == spec.record.checkpoint_every
    assert paper.steps_that_fit(spec, CPU, Budget(1e6), short=False) == spec.steps


def test_without_time_everything_is_left_out_by_name() -> None:
    shapes = [" x ".join(map(str, shape)) for shape in drivers.SHORT]
    sharing = [f"{count} runs at once" for count in shares.TOGETHER]
    for part, names in (
        (kernels.measure, NETWORKS),
        (steps.measure, steps.experiment_names()),
        (drivers.measure, shapes),
        (shares.measure, sharing),
    ):
        table = part(CPU, True, Budget(0))
        assert table.rows == []
        assert sorted(reason.split(",")[0] for reason in table.left_out) == sorted(names)


def test_a_part_runs_in_a_process_of_its_own_and_is_ended_in_time() -> None:
    table = gpu.in_process("paper-0", True, 200)
    assert [row["weight decay"] for row in by_heading(table)] == ["0"]
    ended = gpu.in_process("kernels", True, 0.01)
    assert ended.rows == [] and ended.left_out == ["the rest of kernels, which did not end within its time"]


def test_all_parts_end_within_eight_minutes() -> None:
    assert {name for names in gpu.TOGETHER for name in names} == set(gpu.PARTS) == set(gpu.SECONDS)
    assert sum(max(gpu.GRACE * gpu.SECONDS[name] for name in names) for names in gpu.TOGETHER) < gpu.ALL_SECONDS < 480


def test_what_was_used_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--short", "--describe"]) == 0
    said = capsys.readouterr().out
    assert machine.processor() in said and torch.__version__ in said and said.startswith("CPU: ")
    if not torch.cuda.is_available():
        assert gpu.main([]) == 2
        assert "sees no GPU" in capsys.readouterr().out


def test_a_table_is_markdown() -> None:
    table = Table(title="Times", headings=("a", "b"), rows=[("1|2", "3")], left_out=["c, for lack of time"])
    assert table.markdown() == (
        "**Times**\n\n| a | b |\n| --- | --- |\n| 1\\|2 | 3 |\n\nLeft out: c, for lack of time.\n"
    )
    assert re.fullmatch(r"RuntimeError: first", machine.reason(RuntimeError("first\nsecond")))


def test_seconds_are_of_the_fastest_round() -> None:
    made: list[int] = []
    taken, result = machine.seconds(lambda: made.append(1) or len(made), CPU, rounds=3)
    assert (len(made), result) == (3, 3)
    assert 0 <= taken < math.inf
