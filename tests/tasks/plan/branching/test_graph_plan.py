"""How far a graph is, what the rest will cost, and how the command shows it; nothing runs but trainings of seconds."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from specdyn.flows.cli.app import app
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.storage.checkpoints import mark_damaged, read_manifest, write_manifest
from specdyn.storage.graphs import write_graph
from specdyn.storage.pairs import values_url, write_values
from specdyn.storage.places import Store
from specdyn.storage.sweeps import extend_sweep
from specdyn.tasks.connect.line import finished, line_id, measure_end
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.connect.tickets import comparison_id
from specdyn.tasks.plan.branching import plan as branching_plan
from specdyn.tasks.plan.branching.graph import Graph, connectivity_graph, ticket_graph, ticket_key, trunk_specs
from specdyn.tasks.plan.branching.plan import GraphPlan, Stage, make_graph_plan
from specdyn.tasks.plan.branching.records import record_of
from specdyn.tasks.plan.branching.tables import SHOWN, begun_rows, describe, graph_markdown, graph_plan_summary
from specdyn.tasks.plan.cost import Rates, checkpoint_bytes
from specdyn.tasks.plan.counting import Counter
from specdyn.tasks.plan.sweeps import make_sweep
from specdyn.tasks.plan.tables import size
from specdyn.tasks.training import training
from specdyn.tasks.training.replay import keep_states
from specdyn.tasks.training.training import Loop

NAME = "modular_addition"
train = functools.partial(training.train, device=torch.device("cpu"))
TRUNKS = trunk_specs(NAME, "smoke", (0, 1), {"steps": 40, "weight_decay": 1.0})
GRAPH = connectivity_graph("g", TRUNKS, (10, 30), (3, 4))
RATES = Rates(step=1.0, checkpoint=0.0, evaluation=1e3, decomposition=1e6)


@pytest.fixture(autouse=True)
def rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known seconds in the place of measured ones."""
    monkeypatch.setattr(branching_plan, "measure", lambda spec, store, threads=None: RATES)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[[RunSpec, Store, int], None]:
    """Train a run and let it die at a step."""
    real = Loop.run

    def die(spec: RunSpec, store: Store, at: int) -> None:
        def run(self: Loop, start: int, stop: int) -> torch.Tensor:
            if start >= at:
                raise InterruptedError
            return real(self, start, stop)

        with monkeypatch.context() as patch:
            patch.setattr(Loop, "run", run)
            with pytest.raises(InterruptedError):
                train(spec, store)

    return die


def stages(plan: GraphPlan) -> dict[str, Stage]:
    return {stage.name: stage for stage in plan.stages}


def written(spec: RunSpec, store: Store) -> int:
    """Bytes of the tensors of a run's checkpoints."""
    manifest = read_manifest(store.run_of(spec))
    assert manifest is not None
    return sum(entry.bytes - entry.header_bytes - 8 for entry in manifest.checkpoints)


def put_line(pair: Pair, store: Store) -> None:
    """Have a line between the weights that two runs have now."""
    name = line_id(pair, finished(pair.a, store), finished(pair.b, store))
    write_values(values_url(store, NAME, "pairs", name), {}, {})


def test_a_new_graph_costs_all_its_steps_and_a_branch_those_after_its_split(tmp_path: Path) -> None:
    store = str(tmp_path)
    plan = make_graph_plan(GRAPH, Store(store))
    found = stages(plan)
    assert list(found) == ["trunks", "branches", "factors", "ends", "pairs"]
    assert [(stage.total, stage.left) for stage in plan.stages] == [(2, 2), (8, 8), (8, 8), (12, 12), (8, 8)]
    assert (found["trunks"].seconds, found["branches"].seconds) == (2 * 40, 4 * 30 + 4 * 10)
    # The eight branches on their own data, and of the pairs across trunks the second end on that of the first.
    assert found["factors"].seconds == 8 * 6e6
    assert found["ends"].seconds == 12 * 6e3
    assert found["pairs"].seconds == 8 * (72e3 + 9 * 6e6)
    assert plan.seconds == sum(stage.seconds for stage in plan.stages)
    for trunk in TRUNKS:
        train(trunk, Store(store), (10, 30))
    for spec in GRAPH.branches:
        train(spec, Store(store))
    assert found["trunks"].bytes == sum(written(spec, Store(store)) for spec in TRUNKS)
    assert found["branches"].bytes == sum(written(spec, Store(store)) for spec in GRAPH.branches)


def test_what_is_there_costs_nothing(tmp_path: Path, killed: Callable[[RunSpec, Store, int], None]) -> None:
    store = str(tmp_path)
    whole = stages(make_graph_plan(GRAPH, Store(store)))
    train(TRUNKS[0], Store(store), (10, 30))
    killed(TRUNKS[1], Store(store), 20)
    plan = make_graph_plan(GRAPH, Store(store))
    found = stages(plan)
    manifest = read_manifest(Store(store).run(NAME, TRUNKS[0].run_id))
    assert manifest is not None
    step = manifest.seconds / 40  # of the run that is finished
    assert found["trunks"].left == 1
    assert found["trunks"].seconds == pytest.approx(20 * step)
    assert found["branches"].seconds == pytest.approx(160 * step)
    assert found["trunks"].bytes == whole["trunks"].bytes / 5  # two of ten checkpoints
    (run,) = plan.begun
    assert (run.state, run.step, run.steps, run.label) == (
        "under way",
        20,
        40,
        f"wd=1 seed=1 ({TRUNKS[1].run_id[:6]})",
    )
    assert train(TRUNKS[1], Store(store)).steps == (0, 10, 20, 30, 40)
    assert make_graph_plan(GRAPH, Store(store)).begun == ()


def test_branches_of_a_trunk_that_is_to_be_trained_are_left_as_its_weights_may_change(tmp_path: Path) -> None:
    store, graph = str(tmp_path), connectivity_graph("g", TRUNKS[:1], (30,), (3, 4))
    trunk = train(TRUNKS[0], Store(store), (30,))
    for spec in graph.branches:
        train(spec, Store(store))
    put_line(graph.pairs[0], Store(store))
    assert make_graph_plan(graph, Store(store)).left.nothing
    mark_damaged(Store(store), trunk, "step 40 does not verify")
    plan = make_graph_plan(graph, Store(store))
    assert [(stage.name, stage.left) for stage in plan.stages if stage.name not in ("factors", "ends")] == [
        ("trunks", 1),
        ("branches", 2),
        ("pairs", 1),
    ]
    assert [run.label for run in plan.begun] == [f"wd=1 seed=0 ({TRUNKS[0].run_id[:6]})"]
    train(TRUNKS[0], Store(store), (30,))
    assert make_graph_plan(graph, Store(store)).left.nothing, "the trunk came out with the same bits"


def test_states_that_are_made_again_cost_the_steps_from_the_nearest(tmp_path: Path) -> None:
    store, graph = str(tmp_path), connectivity_graph("g", TRUNKS[:1], (20, 30), (3, 4))
    train(TRUNKS[0], Store(store), (10,))
    found = stages(make_graph_plan(graph, Store(store)))["states of trunks"]
    manifest = read_manifest(Store(store).run(NAME, TRUNKS[0].run_id))
    assert manifest is not None
    assert (found.total, found.left) == (2, 2)
    assert found.seconds == pytest.approx(keep_states(TRUNKS[0], Store(store), (20, 30)) * manifest.seconds / 40)
    assert "states of trunks" not in stages(make_graph_plan(graph, Store(store)))


def test_measured_ends_and_pairs_are_not_counted(tmp_path: Path) -> None:
    store, graph = str(tmp_path), connectivity_graph("g", TRUNKS[:1], (10, 30), (3, 4))
    train(TRUNKS[0], Store(store), (10, 30))
    for spec in graph.branches:
        train(spec, Store(store))
    measure_end(graph.pairs[0].a, graph.pairs[0].a, Store(store))
    found = stages(make_graph_plan(graph, Store(store)))
    assert [(stage.total, stage.left) for stage in found.values()] == [(1, 0), (4, 0), (4, 4), (4, 3), (2, 2)]
    put_line(graph.pairs[0], Store(store))
    found = stages(make_graph_plan(graph, Store(store)))
    assert [(found[name].total, found[name].left) for name in ("ends", "pairs")] == [(2, 2), (2, 1)]
    assert found["pairs"].seconds == Counter(TRUNKS[0]).pair(graph.pairs[1]).seconds(RATES)
    put_line(graph.pairs[1], Store(store))
    plan = make_graph_plan(graph, Store(store))
    assert plan.left.nothing and plan.seconds == plan.bytes == 0


def test_tickets_cost_their_checkpoints(tmp_path: Path) -> None:
    store, graph = str(tmp_path), ticket_graph("t", TRUNKS[:1], 20, (0.5, 0.3), ("magnitude",), (7,))
    found = stages(make_graph_plan(graph, Store(store)))
    assert list(found) == ["trunks", "branches", "factors", "tickets"]
    # Three checkpoints from step 20 on; five masked layers, once for both tickets in the dense run, once at each
    # checkpoint of a ticket and in what the mask leaves of the dense end.
    assert found["factors"].seconds == 5 * 3 * 1e6
    assert found["tickets"].seconds == 2 * (3 * 2 * 1e3 + 5 * 4 * 1e6)
    trunk = train(TRUNKS[0], Store(store), (20,))
    own = train(graph.tickets[0], Store(store))
    write_values(values_url(Store(store), NAME, "tickets", comparison_id(graph.tickets[0], own, trunk)), {}, {})
    assert stages(make_graph_plan(graph, Store(store)))["tickets"].left == 1


def test_a_failed_run_is_told_with_its_reason(tmp_path: Path) -> None:
    store = str(tmp_path)
    trunks = trunk_specs(NAME, "smoke", (0,), {"steps": 40, "learning_rate": 1e30})
    train(trunks[0], Store(store))
    graph = connectivity_graph("g", trunks, (10,), (3, 4))
    (run,) = make_graph_plan(graph, Store(store), estimate=False).begun
    assert run.state == "failed" and "NaN or infinite" in run.reason


def test_what_needs_a_failed_run_is_left_out_and_costs_nothing_until_it_is_tried_again(tmp_path: Path) -> None:
    store = str(tmp_path)
    fine, fails = TRUNKS[0], with_settings(TRUNKS[1], learning_rate=1e30)
    train(fails, Store(store))
    graph = connectivity_graph("g", (fine, fails), (10,), (3, 4))
    plan = make_graph_plan(graph, Store(store))
    left = plan.left
    blocked = [spec.run_id for spec in graph.branches if spec.start and spec.start.run_id == fails.run_id]
    across = [pair.pair_id for pair in graph.pairs if {pair.a.run_id, pair.b.run_id} & set(blocked)]
    assert len(blocked) == 2 and len(across) == 3
    assert list(left.failed) == [fails.run_id] and "NaN or infinite" in left.failed[fails.run_id]
    assert left.blocked == dict.fromkeys([*blocked, *across], fails.run_id)
    # One trunk of 40 steps, its two branches of 30, and neither a step of the failed trunk nor of its branches.
    assert [stages(plan)[name].seconds for name in ("trunks", "branches")] == [40, 2 * 30]
    assert [stages(plan)[name].left for name in ("trunks", "branches", "pairs")] == [2, 4, 4]
    assert "1 run failed before and --retry-failed was not given; what depends on it is left out (5 units)" in describe(
        graph, left
    )
    again = make_graph_plan(graph, Store(store), retry_failed=True)
    assert (again.left.failed, again.left.blocked, again.left.again) == ({}, {}, {fails.run_id})
    # The failed trunk goes on from its state at step 0.
    assert [stages(again)[name].seconds for name in ("trunks", "branches")] == [2 * 40, 4 * 30]
    alone = connectivity_graph("alone", (fails,), (10,), (3, 4))
    assert (
        make_graph_plan(alone, Store(store)).left.nothing
        and not make_graph_plan(alone, Store(store), retry_failed=True).left.nothing
    )


def test_an_iterative_ticket_is_left_out_with_the_one_before_it(tmp_path: Path) -> None:
    store = str(tmp_path)
    graph = ticket_graph("t", TRUNKS[:1], 10, (0.5, 0.25, 0.125), ("iterative", "magnitude"), (3,))
    first, second, third, *others = graph.tickets
    manifest = replace(
        train(TRUNKS[0], Store(store), (10,)), run_id=first.run_id, status="failed", reason="it diverged"
    )
    write_manifest(Store(store), manifest)
    left = make_graph_plan(graph, Store(store), estimate=False).left
    assert left.failed == {first.run_id: "it diverged"}
    needing = [second.run_id, third.run_id, *map(ticket_key, (first, second, third))]
    assert left.blocked == dict.fromkeys(needing, first.run_id)
    assert all(left.can(spec.run_id) and left.can(ticket_key(spec)) for spec in others)


def test_a_status_estimates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branching_plan, "measure", None)
    monkeypatch.setattr(branching_plan, "ends_of", None)
    plan = make_graph_plan(GRAPH, Store(str(tmp_path)), estimate=False)
    assert list(stages(plan)) == ["trunks", "branches", "pairs"]
    assert plan.seconds == plan.bytes == 0


def test_a_plan_as_text_has_its_costs(tmp_path: Path) -> None:
    plan = make_graph_plan(GRAPH, Store(str(tmp_path)))
    summary = graph_plan_summary(plan)
    assert summary.startswith(describe(GRAPH, plan.left))
    # Five checkpoints of each trunk, four or two of each branch.
    assert summary.endswith(f"on one worker, {size(34 * checkpoint_bytes(TRUNKS[0]))} of checkpoints to write.")
    lines = graph_markdown(plan).splitlines()
    assert lines[2] == "| stage | there | left | time on one worker | checkpoints to write |"
    assert lines[4].startswith("| trunks | 0 | 2 | 80 s | ")
    assert lines[-1].startswith("| pairs | 0 | 8 | ")


def test_of_many_runs_under_way_the_first_are_listed(tmp_path: Path) -> None:
    plan = make_graph_plan(GRAPH, Store(str(tmp_path)), estimate=False)
    run = branching_plan.Begun(label="r", state="under way", step=1, steps=2, reason="")
    crowded = Stage(name="trunks", total=50, left=50, begun=(run,) * (SHOWN + 7))
    rows = begun_rows(GraphPlan(graph=GRAPH, store=Store("s"), left=plan.left, stages=(crowded,)))
    assert rows[0] == ("r", "under way", "1 of 2", "")
    assert rows[SHOWN:] == [("and 7 more", "", "", "")]


def said(*arguments: str, code: int = 0) -> str:
    """All that the command prints, on one line."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def recorded(graph: Graph, store: Store) -> None:
    write_graph(store, record_of(graph))


def test_status_shows_a_graph_by_name(tmp_path: Path, killed: Callable[[RunSpec, Store, int], None]) -> None:
    store = str(tmp_path)
    recorded(GRAPH, Store(store))
    train(TRUNKS[0], Store(store), (10, 30))
    killed(TRUNKS[1], Store(store), 30)
    output = said("status", "g", "--store", store)
    assert "trunks 2 1 1 1 0" in output and "branches 8 0 8 0 0" in output and "pairs 8 0 8 0 0" in output
    assert f"wd=1 seed=1 ({TRUNKS[1].run_id[:6]}) under way 30 of 40" in output
    assert "g: 2 trunks, 8 branches at steps 10, 30. Remaining: 9 of 10 trainings, 8 of 8 pairs." in output


def test_status_shows_all_that_goes_by_a_name_and_names_what_there_is(tmp_path: Path) -> None:
    store = str(tmp_path)
    recorded(GRAPH, Store(store))
    recorded(ticket_graph("g", TRUNKS, 20, (0.5,), ("magnitude",), (7,)), Store(store))
    extend_sweep(Store(store), make_sweep(NAME, "smoke", sweep="g").record)
    output = said("status", "g", "--store", store)
    assert output.index("2 of 2 runs to do") < output.index("8 of 8 pairs") < output.index("2 of 2 tickets")
    assert "no results called 'other' in" in said("status", "other", "--store", store, code=2)


def test_list_has_graphs_beside_sweeps(tmp_path: Path) -> None:
    store = str(tmp_path)
    recorded(GRAPH, Store(store))
    extend_sweep(Store(store), make_sweep(NAME, "smoke", sweep="swept").record)
    output = said("list", "sweeps", "--store", store)
    assert f"swept sweep {NAME} smoke 2" in output
    assert f"g connectivity {NAME} - 10" in output


def test_a_damaged_record_ends_with_what_to_do(tmp_path: Path) -> None:
    url = Path(Store(str(tmp_path)).graph("g", "connectivity"))
    url.parent.mkdir(parents=True)
    url.write_text("{")
    assert "is not the record of a graph" in said("status", "g", "--store", str(tmp_path), code=2)
