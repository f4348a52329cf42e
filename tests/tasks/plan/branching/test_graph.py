"""Graphs of trunks, branches and pairs: what belongs to one, what is left of it, what is refused."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from helpers.branched import left
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.checkpoints import kept_states
from specdyn.storage.places import Store
from specdyn.storage.results import write_values
from specdyn.tasks.connect.ids import line_id
from specdyn.tasks.connect.line import finished
from specdyn.tasks.plan.branching.graph import Graph, Lines, Noise, connectivity_graph, ticket_graph, trunk_specs
from specdyn.tasks.training.replay import keep_states
from specdyn.tasks.training.training import train

NAME = "modular_addition"
SETTINGS: dict[str, object] = {"steps": 40, "weight_decay": 1.0}


def trunks(count: int = 3) -> tuple[RunSpec, ...]:
    return trunk_specs(NAME, "smoke", range(count), SETTINGS)


def test_branches_and_pairs_match_the_design() -> None:
    graph = connectivity_graph("g", trunks(), (0, 20), (3, 4, 5), Noise(sizes=(0.0, 1.0), directions=("random", "top")))
    plain = [spec for spec in graph.branches if spec.start and spec.start.perturbation is None]
    assert len(plain) == 3 * 2 * 3
    assert len(graph.branches) - len(plain) == 3 * 2 * 2 * 3
    kinds = [pair.kind for pair in graph.pairs]
    assert {kind: kinds.count(kind) for kind in kinds} == {"within": 3 * 2 * 3, "across": 3 * 2 * 3, "perturbed": 36}
    assert len({pair.pair_id for pair in graph.pairs}) == len(graph.pairs)
    assert len(graph.runs) == 3 + len(graph.branches)
    for pair in graph.pairs:
        assert pair.a.start and pair.b.start
        assert pair.a.start.step == pair.b.start.step
        same_trunk, same_order = pair.a.seed == pair.b.seed, pair.a.start.order == pair.b.start.order
        assert (same_trunk, same_order) == ((False, True) if pair.kind == "across" else (True, False))
        if pair.kind == "perturbed":
            assert pair.a.start.step == 20
            assert pair.a.start.perturbation and pair.b.start.perturbation
            assert pair.a.start.perturbation.noise_seed != pair.b.start.perturbation.noise_seed


def test_without_the_control_no_two_trunks_are_connected() -> None:
    graph = connectivity_graph("g", trunks(), (20,), (3, 4), lines=Lines(across=False))
    assert {pair.kind for pair in graph.pairs} == {"within"}


@pytest.mark.parametrize(("orders", "seeds"), [((3,), (0,)), ((3, 3), (0,)), ((3, 4), ()), ((3, 4), (0, 0))])
def test_too_few_or_repeated_seeds_are_refused(orders: tuple[int, ...], seeds: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"each value once|two or more|at least one value"):
        connectivity_graph("g", trunk_specs(NAME, "smoke", seeds, SETTINGS), (20,), orders)


def remaining(graph: Graph, store: str) -> dict[str, int]:
    """How many items of each kind are left."""
    return dict(Counter(item.kind for item in left(graph, Store(store))))


def test_what_is_left_is_read_from_the_store(tmp_path: Path) -> None:
    store, (trunk,) = str(tmp_path), trunks(1)
    graph = connectivity_graph("g", [trunk], (10, 20), (3, 4))
    shared = {"factors": 4, "ends": 4, "pairs": 2}
    assert remaining(graph, store) == {"trunks": 1, "branches": 4, **shared}
    train(trunk, Store(store), (10,), torch.device("cpu"))
    assert remaining(graph, store) == {"states": 1, "branches": 4, **shared}
    (states,) = left(graph, Store(store), "states")
    assert states.unit is not None and states.unit.arguments[3] == (20,)
    keep_states(trunk, Store(store), (20,))
    assert sorted(kept_states(Store(store).run(NAME, trunk.run_id))) == [10, 20]
    for spec in graph.branches:
        train(spec, Store(store), device=torch.device("cpu"))
    assert remaining(graph, store) == shared
    for pair in graph.pairs:
        name = line_id(pair, finished(pair.a, Store(store)), finished(pair.b, Store(store)))
        write_values(Store(store).result("pairs", NAME, name), {}, {})
    assert remaining(graph, store) == {}


def test_states_count_only_where_a_branch_is_still_to_begin(tmp_path: Path) -> None:
    store, (trunk,) = str(tmp_path), trunks(1)
    train(trunk, Store(store), (20,), torch.device("cpu"))
    graph = connectivity_graph("g", [trunk], (20,), (3, 4))
    for spec in graph.branches:
        train(spec, Store(store), device=torch.device("cpu"))
    for url in kept_states(Store(store).run(NAME, trunk.run_id)).values():
        Path(url).unlink()
    assert "states" not in remaining(graph, store)


def test_settings_of_trunks_are_checked() -> None:
    assert all(spec.decay.weight_decay == 1.0 for spec in trunks())
    with pytest.raises(ValueError, match="did you mean 'weight_decay'"):
        trunk_specs(NAME, "smoke", [0], {"weight_deca": 1.0})
    assert get_experiment(NAME).preset("smoke").spec.seed == 0


def test_tickets_are_branches_at_one_step_with_every_mask() -> None:
    graph = ticket_graph("g", trunks(2), 20, (0.1, 0.5), ("magnitude", "random"), (7,))
    assert len(graph.tickets) == 2 * 2 * 2 and graph.branches == graph.tickets and graph.pairs == ()
    assert {spec.start.ticket.mask for spec in graph.tickets if spec.start and spec.start.ticket} == {
        "magnitude",
        "random",
    }
    assert len({spec.run_id for spec in graph.tickets}) == 8
    with pytest.raises(ValueError, match=r"densities=\[0.1, 0.1\] is not allowed"):
        ticket_graph("g", trunks(1), 20, (0.1, 0.1), ("magnitude",), (7,))


def test_iterative_tickets_are_a_chain_from_dense_to_sparse() -> None:
    graph = ticket_graph("g", trunks(1), 20, (0.1, 0.5, 0.3), ("iterative",), (7,))
    chain = [spec.start.ticket for spec in graph.tickets if spec.start]
    assert [ticket.density for ticket in chain if ticket] == [0.5, 0.3, 0.1]
    assert [ticket.previous for ticket in chain if ticket] == ["", *(spec.run_id for spec in graph.tickets[:-1])]
