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
from specdyn.models.wording import size
from specdyn.storage.checkpoints import mark_damaged, read_manifest, write_manifest
from specdyn.storage.places import Store
from specdyn.storage.results import write_values
from specdyn.tasks.connect import meter
from specdyn.tasks.connect.ids import comparison_id, line_id
from specdyn.tasks.connect.line import finished, measure_end
from specdyn.tasks.connect.pair import Pair
from specdyn.tasks.plan import measuring
from specdyn.tasks.plan.branching.graph import connectivity_graph, ticket_graph, ticket_key, trunk_specs
from specdyn.tasks.plan.cost import Rates, checkpoint_bytes
from specdyn.tasks.plan.counting import Counter
from specdyn.tasks.plan.plan import Estimate, Item, Plan, make_plan
from specdyn.tasks.plan.sweeps import make_sweep
from specdyn.tasks.plan.tables import SHOWN, plan_markdown, plan_summary, run_rows
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
    monkeypatch.setattr(measuring, "measure", lambda *_: RATES)


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


def counts(plan: Plan) -> dict[str, tuple[int, int]]:
    """How many items of each kind there are, and how many of these are left."""
    return {kind: (len(plan.of(kind)), sum(item.state != "done" for item in plan.of(kind))) for kind in plan.kinds}


def costs(plan: Plan) -> dict[str, Estimate]:
    return dict(plan.estimates)


def begun(plan: Plan) -> list[Item]:
    """The runs that are neither new nor done."""
    return [item for item in plan.items if item.run and item.state not in ("new", "done")]


def written(spec: RunSpec, store: Store) -> int:
    """Bytes of the tensors of a run's checkpoints."""
    manifest = read_manifest(store.run_of(spec))
    assert manifest is not None
    return sum(entry.bytes - entry.header_bytes - 8 for entry in manifest.checkpoints)


def put_line(pair: Pair, store: Store) -> None:
    """Have a line between the weights that two runs have now."""
    name = line_id(pair, finished(pair.a, store), finished(pair.b, store))
    write_values(store.result("pairs", NAME, name), {}, {})


def test_a_new_graph_costs_all_its_steps_and_a_branch_the_ones_after_its_split(tmp_path: Path) -> None:
    store = str(tmp_path)
    plan = make_plan(GRAPH, Store(store))
    cost = costs(plan)
    assert counts(plan) == {"trunks": (2, 2), "branches": (8, 8), "factors": (8, 8), "ends": (12, 12), "pairs": (8, 8)}
    assert (cost["trunks"].seconds, cost["branches"].seconds) == (2 * 40, 4 * 30 + 4 * 10)
    # The eight branches on their own data, and of the pairs across trunks the second end on that of the first.
    assert cost["factors"].seconds == 8 * 6e6
    assert cost["ends"].seconds == 12 * 6e3
    assert cost["pairs"].seconds == 8 * (72e3 + 9 * 6e6)
    assert plan.seconds == sum(one.seconds for one in cost.values())
    for trunk in TRUNKS:
        train(trunk, Store(store), (10, 30))
    for spec in GRAPH.branches:
        train(spec, Store(store))
    assert cost["trunks"].bytes == sum(written(spec, Store(store)) for spec in TRUNKS)
    assert cost["branches"].bytes == sum(written(spec, Store(store)) for spec in GRAPH.branches)


def test_what_is_there_costs_nothing(tmp_path: Path, killed: Callable[[RunSpec, Store, int], None]) -> None:
    store = str(tmp_path)
    whole = costs(make_plan(GRAPH, Store(store)))
    train(TRUNKS[0], Store(store), (10, 30))
    killed(TRUNKS[1], Store(store), 20)
    plan = make_plan(GRAPH, Store(store))
    manifest = read_manifest(Store(store).run(NAME, TRUNKS[0].run_id))
    assert manifest is not None
    step = manifest.seconds / 40  # of the run that is finished
    assert counts(plan)["trunks"] == (2, 1)
    # Three of five checkpoints are there: two are left, and two fifths of the steps.
    assert costs(plan)["trunks"].seconds == pytest.approx(16 * step)
    assert costs(plan)["branches"].seconds == pytest.approx(160 * step)
    assert costs(plan)["trunks"].bytes == whole["trunks"].bytes / 5  # two of ten checkpoints
    (run,) = begun(plan)
    assert (run.state, run.there, run.parts, run.label) == ("partial", 3, 5, f"wd=1 seed=1 ({TRUNKS[1].run_id[:6]})")
    assert train(TRUNKS[1], Store(store)).steps == (0, 10, 20, 30, 40)
    assert begun(make_plan(GRAPH, Store(store))) == []


def test_branches_of_a_trunk_that_is_to_be_trained_are_left_as_its_weights_may_change(tmp_path: Path) -> None:
    store, graph = str(tmp_path), connectivity_graph("g", TRUNKS[:1], (30,), (3, 4))
    trunk = train(TRUNKS[0], Store(store), (30,))
    for spec in graph.branches:
        train(spec, Store(store))
    put_line(graph.pairs[0], Store(store))
    assert make_plan(graph, Store(store)).todo == ()
    mark_damaged(Store(store), trunk, "step 40 does not verify")
    plan = make_plan(graph, Store(store))
    assert [counts(plan)[kind][1] for kind in ("trunks", "branches", "pairs")] == [1, 2, 1]
    assert [run.label for run in begun(plan)] == [f"wd=1 seed=0 ({TRUNKS[0].run_id[:6]})"]
    train(TRUNKS[0], Store(store), (30,))
    assert make_plan(graph, Store(store)).todo == (), "the trunk came out with the same bits"


def test_states_that_are_made_again_cost_the_steps_from_the_nearest(tmp_path: Path) -> None:
    store, graph = str(tmp_path), connectivity_graph("g", TRUNKS[:1], (20, 30), (3, 4))
    train(TRUNKS[0], Store(store), (10,))
    plan = make_plan(graph, Store(store))
    manifest = read_manifest(Store(store).run(NAME, TRUNKS[0].run_id))
    assert manifest is not None
    (states,) = plan.of("states")
    assert (states.there, states.parts) == (0, 2)
    made = keep_states(TRUNKS[0], Store(store), (20, 30))
    assert costs(plan)["states"].seconds == pytest.approx(made * manifest.seconds / 40)
    assert "states" not in counts(make_plan(graph, Store(store)))


def test_states_are_not_made_again_where_that_is_not_allowed(tmp_path: Path) -> None:
    graph = replace(connectivity_graph("g", TRUNKS[:1], (20, 30), (3, 4)), retrain=False)
    train(TRUNKS[0], Store(str(tmp_path)), (10, 30))
    with pytest.raises(ValueError, match=r"did not keep its state at steps 20; it kept: 10, 30\. Allow retrain, or"):
        make_plan(graph, Store(str(tmp_path)), estimate=False)


def test_measured_ends_and_pairs_are_not_counted(tmp_path: Path) -> None:
    store, graph = str(tmp_path), connectivity_graph("g", TRUNKS[:1], (10, 30), (3, 4))
    train(TRUNKS[0], Store(store), (10, 30))
    for spec in graph.branches:
        train(spec, Store(store))
    measure_end(graph.pairs[0].a, graph.pairs[0].a, Store(store))
    found = counts(make_plan(graph, Store(store)))
    assert list(found.values()) == [(1, 0), (4, 0), (4, 4), (4, 3), (2, 2)]
    put_line(graph.pairs[0], Store(store))
    plan = make_plan(graph, Store(store))
    assert [counts(plan)[name] for name in ("ends", "pairs")] == [(2, 2), (2, 1)]
    assert costs(plan)["pairs"].seconds == Counter(TRUNKS[0]).pair(graph.pairs[1]).seconds(RATES)
    put_line(graph.pairs[1], Store(store))
    plan = make_plan(graph, Store(store))
    assert plan.todo == () and plan.seconds == plan.bytes == 0


def test_tickets_cost_their_checkpoints(tmp_path: Path) -> None:
    store, graph = str(tmp_path), ticket_graph("t", TRUNKS[:1], 20, (0.5, 0.3), ("magnitude",), (7,))
    plan = make_plan(graph, Store(store))
    assert plan.kinds == ["trunks", "branches", "factors", "tickets"]
    # Three checkpoints from step 20 on; five masked layers, once for both tickets in the dense run, once at each
    # checkpoint of a ticket and in what the mask leaves of the dense end.
    assert costs(plan)["factors"].seconds == 5 * 3 * 1e6
    assert costs(plan)["tickets"].seconds == 2 * (3 * 2 * 1e3 + 5 * 4 * 1e6)
    trunk = train(TRUNKS[0], Store(store), (20,))
    own = train(graph.tickets[0], Store(store))
    write_values(Store(store).result("tickets", NAME, comparison_id(graph.tickets[0], own, trunk)), {}, {})
    assert counts(make_plan(graph, Store(store)))["tickets"] == (2, 1)


def test_a_failed_run_is_reported_with_its_reason(tmp_path: Path) -> None:
    store = str(tmp_path)
    trunks = trunk_specs(NAME, "smoke", (0,), {"steps": 40, "learning_rate": 1e30})
    train(trunks[0], Store(store))
    graph = connectivity_graph("g", trunks, (10,), (3, 4))
    (run,) = begun(make_plan(graph, Store(store), estimate=False))
    assert run.state == "failed" and "NaN or infinite" in run.reason


def test_what_needs_a_failed_run_is_left_out_and_costs_nothing_until_it_is_tried_again(tmp_path: Path) -> None:
    store = str(tmp_path)
    fine, fails = TRUNKS[0], with_settings(TRUNKS[1], learning_rate=1e30)
    train(fails, Store(store))
    graph = connectivity_graph("g", (fine, fails), (10,), (3, 4))
    plan = make_plan(graph, Store(store))
    blocked = [spec.run_id for spec in graph.branches if spec.start and spec.start.run_id == fails.run_id]
    across = [pair.pair_id for pair in graph.pairs if {pair.a.run_id, pair.b.run_id} & set(blocked)]
    assert len(blocked) == 2 and len(across) == 3
    (failed,) = plan.failed
    assert failed.key == fails.run_id and "NaN or infinite" in failed.reason
    assert plan.left_out == dict.fromkeys([*blocked, *across], f"{failed.label} failed")
    # One trunk of 40 steps, its two branches of 30, and neither a step of the failed trunk nor of its branches.
    assert [costs(plan)[name].seconds for name in ("trunks", "branches")] == [40, 2 * 30]
    # Ends of the one pair that can be measured, alone.
    assert [counts(plan)[name][1] for name in ("trunks", "branches", "factors", "ends", "pairs")] == [2, 4, 2, 2, 4]
    said = "1 run failed before and --retry-failed was not given; what depends on it is left out (5 units)."
    assert said in plan_summary(plan)
    again = make_plan(graph, Store(store), retry_failed=True)
    assert (again.failed, again.left_out) == ((), {})
    (tried,) = (item for item in again.items if item.key == fails.run_id)
    assert tried.unit is not None and tried.unit.arguments[3], "it is to be trained though it failed"
    # The failed trunk goes on from its checkpoint at step 0, one of five.
    assert [costs(again)[name].seconds for name in ("trunks", "branches")] == [40 + 4 / 5 * 40, 4 * 30]
    alone = connectivity_graph("alone", (fails,), (10,), (3, 4))
    assert make_plan(alone, Store(store)).todo == ()
    assert make_plan(alone, Store(store), retry_failed=True).todo


def test_an_iterative_ticket_is_left_out_with_the_one_before_it(tmp_path: Path) -> None:
    store = str(tmp_path)
    graph = ticket_graph("t", TRUNKS[:1], 10, (0.5, 0.25, 0.125), ("iterative", "magnitude"), (3,))
    first, second, third, *others = graph.tickets
    manifest = replace(
        train(TRUNKS[0], Store(store), (10,)), run_id=first.run_id, status="failed", reason="it diverged"
    )
    write_manifest(Store(store), manifest)
    plan = make_plan(graph, Store(store), estimate=False)
    assert [(item.key, item.reason) for item in plan.failed] == [(first.run_id, "it diverged")]
    needing = {second.run_id, third.run_id, *map(ticket_key, (first, second, third))}
    assert plan.left_out.keys() == needing
    todo = {item.key for item in plan.todo}
    assert all({spec.run_id, ticket_key(spec)} <= todo for spec in others)


def test_a_status_measures_builds_and_loads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "measure", None)
    monkeypatch.setattr(Counter, "__init__", None)
    monkeypatch.setattr(meter, "data_key", None)
    plan = make_plan(GRAPH, Store(str(tmp_path)), estimate=False)
    assert plan.seconds == plan.bytes == 0 and costs(plan) == {}


def test_a_plan_as_text_has_its_costs(tmp_path: Path) -> None:
    plan = make_plan(GRAPH, Store(str(tmp_path)))
    summary = plan_summary(plan)
    assert summary.startswith("g: 2 of 2 trunks, 8 of 8 branches, 8 of 8 factors, 12 of 12 ends, 8 of 8 pairs to do.")
    # Five checkpoints of each trunk, four or two of each branch.
    assert summary.endswith(f"on one worker, {size(34 * checkpoint_bytes(TRUNKS[0]))} of checkpoints to write.")
    lines = plan_markdown(plan).splitlines()
    assert lines[4] == "| stage | there | left | failed | time on one worker | checkpoints to write |"
    assert lines[6].startswith("| trunks | 0 | 2 | - | 80 s | ")
    assert lines[10].startswith("| pairs | 0 | 8 | - | ")


def test_begun_runs_come_first_among_many(tmp_path: Path) -> None:
    plan = make_plan(GRAPH, Store(str(tmp_path)), estimate=False)
    item = plan.items[0]
    many = tuple(replace(item, label=f"run {i}") for i in range(SHOWN + 7))
    crowded = replace(plan, items=(*many[:-1], replace(many[-1], state="partial", there=2)), estimates={})
    rows = run_rows(crowded, worked=True)
    assert rows[0] == (f"run {SHOWN + 6}", "under way", "trunks 2/5", "trunks")
    assert rows[1][:2] == ("run 0", "waiting")
    assert len(rows) == SHOWN + 1 and rows[SHOWN] == ("and 7 more", "", "", "")


def said(*arguments: str, code: int = 0) -> str:
    """All that the command prints, on one line."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_status_shows_a_graph_by_name(tmp_path: Path, killed: Callable[[RunSpec, Store, int], None]) -> None:
    store = str(tmp_path)
    GRAPH.record(Store(store))
    train(TRUNKS[0], Store(store), (10, 30))
    killed(TRUNKS[1], Store(store), 30)
    output = said("status", "g", "--store", store)
    assert "trunks 1 1 -" in output and "branches 0 8 -" in output and "pairs 0 8 -" in output
    assert f"wd=1 seed=1 ({TRUNKS[1].run_id[:6]}) begun trunks 4/5 trunks" in output
    assert "g: 1 of 2 trunks, 8 of 8 branches, 8 of 8 pairs to do." in output


def test_status_shows_all_that_goes_by_a_name_and_names_what_there_is(tmp_path: Path) -> None:
    store = str(tmp_path)
    GRAPH.record(Store(store))
    ticket_graph("g", TRUNKS, 20, (0.5,), ("magnitude",), (7,)).record(Store(store))
    make_sweep(NAME, "smoke", sweep="g").record(Store(store))
    output = said("status", "g", "--store", store)
    assert output.index("2 of 2 trainings") < output.index("8 of 8 pairs") < output.index("2 of 2 tickets")
    assert "no study called 'other' in" in said("status", "other", "--store", store, code=2)


def test_list_has_graphs_beside_sweeps(tmp_path: Path) -> None:
    store = str(tmp_path)
    GRAPH.record(Store(store))
    make_sweep(NAME, "smoke", sweep="swept").record(Store(store))
    output = said("list", "studies", "--store", store)
    assert f"swept sweep {NAME} smoke 2" in output
    assert f"g connectivity {NAME} - 10" in output


def test_a_damaged_record_ends_with_what_to_do(tmp_path: Path) -> None:
    url = Path(Store(str(tmp_path)).study("g", "connectivity"))
    url.parent.mkdir(parents=True)
    url.write_text("{")
    assert "is not the record of a study" in said("status", "g", "--store", str(tmp_path), code=2)
