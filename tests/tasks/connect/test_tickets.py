"""Lottery tickets beside their dense run: what is measured, against values worked out from the checkpoints."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
import xarray as xr

from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.start import StartFrom, Ticket
from specdyn.storage.access.objects import exists
from specdyn.storage.checkpoints import read_finished, read_manifest
from specdyn.storage.places import Store
from specdyn.storage.results import Values, read_values
from specdyn.tasks.connect.ids import comparison_id
from specdyn.tasks.connect.meter import Meter
from specdyn.tasks.connect.tickets import decompose_dense, examine
from specdyn.tasks.plan.branching.graph import Graph
from specdyn.tasks.training import training
from specdyn.tasks.training.branches import mask_of, maskable
from specdyn.tasks.training.masks import mask_id
from specdyn.tasks.work import Work

train = functools.partial(training.train, device=torch.device("cpu"))
TRUNK = dataclasses.replace(get_experiment("modular_addition").preset("smoke").spec, steps=40)
LAYERS = len(maskable(TRUNK))


def ticket(kind: str, density: float = 0.4) -> RunSpec:
    """A ticket of the trunk from step 20 on."""
    chosen = Ticket(density=density, mask=kind, mask_seed=1)
    return dataclasses.replace(TRUNK, start=StartFrom(run_id=TRUNK.run_id, step=20, order=5, ticket=chosen))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a trunk and tickets of every kind."""
    store = Store(str(tmp_path_factory.mktemp("tickets")))
    train(TRUNK, store, (20,))
    for kind in ("magnitude", "random", "reinit", "shuffled"):
        train(ticket(kind), store)
    return store


def name_of(spec: RunSpec, store: Store) -> str:
    """The id of what is measured of a ticket with the weights that it and its trunk have now."""
    own, dense = (read_manifest(store.run(TRUNK.experiment, run_id)) for run_id in (spec.run_id, TRUNK.run_id))
    assert own and dense
    return comparison_id(spec, own, dense)


def measured(store: Store, spec: RunSpec) -> Values:
    examine(spec, store)
    found = read_values(store.result("tickets", spec.experiment, name_of(spec, store)))
    assert found is not None
    return found.values


def weights(store: Store, run_id: str, step: int) -> dict[str, torch.Tensor]:
    manifest = read_manifest(store.run(TRUNK.experiment, run_id))
    assert manifest is not None
    return read_finished(store, manifest, step)


def test_a_ticket_takes_the_decompositions_that_it_must_and_is_examined_once(store: Store) -> None:
    spec = ticket("magnitude")
    # The dense run at each of three checkpoints, once for all of its tickets.
    assert [decompose_dense(TRUNK, 20, store) for _ in range(2)] == [Work(0, 3 * LAYERS), Work()]
    # The ticket at each of them, and what the mask leaves of the dense end.
    assert examine(spec, store) == Work(3 * 2, (3 + 1) * LAYERS)
    assert examine(spec, store) == Work()
    assert examine(ticket("random"), store) == Work(3 * 2, (3 + 1) * LAYERS)
    assert exists(store.mask(mask_id(mask_of(spec, store))))


def test_agreement_with_the_dense_run_is_that_of_numpys_singular_vectors(store: Store) -> None:
    spec = ticket("magnitude")
    found = measured(store, spec)
    for i, step in enumerate((20, 30, 40)):
        own, dense = weights(store, spec.run_id, step), weights(store, TRUNK.run_id, step)
        for j, layer in enumerate(maskable(TRUNK)):
            (u, _, v), (x, _, y) = (
                np.linalg.svd(w[layer.parameter].double().numpy(), full_matrices=False) for w in (own, dense)
            )
            expected = np.abs((u * x).sum(0) * (v * y).sum(1))
            # Vectors of values that lie close turn into one another: the first ones are apart.
            np.testing.assert_allclose(found["agreement_dense"][i, j, :2], expected[:2], atol=2e-3)
    np.testing.assert_allclose(found["agreement_score"][-1], 1, atol=1e-5)


def test_metrics_match_the_checkpoints(store: Store) -> None:
    spec = ticket("random")
    found, meter = measured(store, spec), Meter(TRUNK, store)
    for i, step in enumerate((20, 30, 40)):
        expected = meter.metrics(weights(store, spec.run_id, step))
        assert all(np.allclose(found[name][i], value, rtol=1e-5) for name, value in expected.items())


@pytest.mark.parametrize("kind", ["magnitude", "random", "reinit", "shuffled"])
def test_what_a_mask_keeps_of_the_dense_end(kind: str, store: Store) -> None:
    spec = ticket(kind)
    found, mask, end = measured(store, spec), mask_of(spec, store), weights(store, TRUNK.run_id, 40)
    energy = [float((end[name][kept] ** 2).sum() / (end[name] ** 2).sum()) for name, kept in mask.items()]
    np.testing.assert_allclose(found["kept_energy"], energy, rtol=1e-5)
    np.testing.assert_allclose(found["layer_density"], [float(k.float().mean()) for k in mask.values()], rtol=1e-6)
    if kind in ("magnitude", "reinit"):
        np.testing.assert_array_equal(found["overlap"], 1)
        assert (found["kept_energy"] > found["layer_density"]).all()
    else:
        # Two random subsets of share d overlap in d of either: intersection over union d / (2 - d).
        d = found["layer_density"]
        np.testing.assert_allclose(found["overlap"], d / (2 - d), atol=0.15)


def test_the_cube_names_every_ticket(store: Store) -> None:
    tickets = [ticket(kind) for kind in ("magnitude", "random")]
    values = [measured(store, spec) for spec in tickets]
    graph = Graph(
        name="hand",
        experiment=TRUNK.experiment,
        trunks=(TRUNK,),
        splits=(20,),
        branches=tuple(tickets),
        tickets=tuple(tickets),
    )
    graph.results(store).write(None)
    data = xr.open_zarr(store.tickets("hand"))
    for place, of_ticket in enumerate(values):
        for name, expected in of_ticket.items():
            np.testing.assert_array_equal(data[name].isel(ticket=place), expected)
    assert data["mask"].values.tolist() == ["magnitude", "random"]
    assert data["step"].values.tolist() == [20, 30, 40]
    assert data["agreement_dense"].dims == ("ticket", "step", "layer", "rank")
    assert all(data[name].attrs["long_name"] for name in data.data_vars)
    mask = data["agreement_mask_score"].mean("layer")
    assert float(mask[0]) > float(mask[1])
