"""How many units fit the machines of a cluster, and how many GPUs each takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specdyn.flows.engine.resources import Node, NotEnoughResources, gpus_of_a_unit, units_that_fit
from specdyn.flows.engine.settings import PATIENCE, patience
from specdyn.flows.resources import Resources


@pytest.mark.parametrize(
    ("machines", "cpus", "gpus", "fit"),
    [
        ([], 1, 0, 0),
        ([(4, 0)], 1, 0, 4),
        ([(4, 0)], 3, 0, 1),
        ([(2, 0), (2, 0)], 3, 0, 0),
        ([(2, 0), (5, 0)], 2, 0, 3),
        ([(0, 0), (8, 2)], 1, 1, 2),
        ([(1, 2), (8, 0)], 1, 1, 1),
        ([(16, 1)], 1, 0.25, 4),
        ([(2, 1)], 1, 0.25, 2),
        ([(16, 1), (16, 3)], 1, 2, 1),
    ],
)
def test_a_unit_fits_one_machine(machines: list[tuple[int, float]], cpus: int, gpus: float, fit: int) -> None:
    assert units_that_fit([Node(*machine) for machine in machines], cpus, gpus) == fit


MACHINES = st.lists(st.tuples(st.integers(0, 64), st.integers(0, 8)))


@given(MACHINES, st.integers(1, 16), st.sampled_from([0, 0.25, 0.5, 1, 2]))
def test_what_fits_takes_no_more_than_there_is(machines: list[tuple[int, int]], cpus: int, gpus: float) -> None:
    nodes = [Node(*machine) for machine in machines]
    fit = units_that_fit(nodes, cpus, gpus)
    assert fit * cpus <= sum(node.cpus for node in nodes)
    assert fit * gpus <= sum(node.gpus for node in nodes)
    assert fit == sum(units_that_fit([node], cpus, gpus) for node in nodes)


@pytest.mark.parametrize(("asked", "there", "given"), [(None, 0, 0), (None, 2, 1), (0.5, 1, 0.5), (0, 4, 0), (2, 2, 2)])
def test_gpus_of_a_unit(asked: float | None, there: float, given: float) -> None:
    assert gpus_of_a_unit(Resources(gpus=asked), [Node(8, there)]) == given


@pytest.mark.parametrize("gpus", [-1, 1.5, 2.25, 0.00001, float("inf"), float("nan")])
def test_gpus_that_ray_cannot_give_are_refused(gpus: float) -> None:
    with pytest.raises(ValueError, match=r"^gpus=.* expected None, 0, a share from 0.0001 to 1, or a whole number$"):
        Resources(gpus=gpus)


def test_gpus_of_several_machines_do_not_add_up_for_one_unit() -> None:
    pair = [Node(8, 1), Node(8, 1)]
    with pytest.raises(
        NotEnoughResources, match="gpus=2 requested per task, but no node of the Ray cluster has more than 1"
    ):
        gpus_of_a_unit(Resources(gpus=2), pair)
    assert gpus_of_a_unit(Resources(gpus=2, cpu_if_no_gpu=True), pair) == 0


def test_the_patience_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PATIENCE, raising=False)
    assert patience() == 0
    monkeypatch.setenv(PATIENCE, "")
    assert patience() == 0
    monkeypatch.setenv(PATIENCE, "90.5")
    assert patience() == 90.5


@pytest.mark.parametrize("said", ["soon", "-1", "inf", "nan"])
def test_a_patience_that_is_no_number_of_seconds_is_refused(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(PATIENCE, said)
    with pytest.raises(ValueError, match=f"{PATIENCE}.*a number of seconds"):
        patience()
