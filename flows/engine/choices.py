"""The graph that a form or a command describes, checked before anything is started; nothing here imports Prefect."""

from collections.abc import Mapping
from typing import Any

from specdyn.flows.engine.settings import chosen_store
from specdyn.flows.fields import named_preset
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.start import MASKS
from specdyn.tasks.plan.branching import Graph, connectivity_graph, ticket_graph, trunk_specs
from specdyn.tasks.plan.names import automatic_name, require_name
from specdyn.tasks.plan.planning import require_inputs
from specdyn.tasks.plan.splits import rewind_step, split_steps


def connectivity_from(given: Mapping[str, Any]) -> tuple[Graph, str]:
    """The graph of the flow `mode-connectivity` with these parameters, and the store's URL.

    ValueError or StoreError names what cannot work.
    """
    trunks, title, store = _begin(given)
    steps = split_steps(trunks[0], store, given["splits"] or None, given["split_count"], given["split_epochs"] or None)
    orders = given["orders"] or [max(given["seeds"]) + 1 + i for i in range(3)]
    graph = connectivity_graph(
        title,
        trunks,
        steps,
        orders,
        given["sizes"],
        given["directions"] or ("random",),
        given["across"],
        given["layerwise"],
        given["curve_steps"],
        given["points"],
    )
    return graph, store


def tickets_from(given: Mapping[str, Any]) -> tuple[Graph, str]:
    """The graph of the flow `lottery-tickets` with these parameters, and the store's URL.

    ValueError or StoreError names what cannot work.
    """
    trunks, title, store = _begin(given)
    step = rewind_step(trunks[0], store, given["rewind"], given["rewind_epoch"])
    orders = given["orders"] or [max(given["seeds"]) + 1]
    return ticket_graph(title, trunks, step, given["densities"], given["masks"] or MASKS, orders), store


def _begin(given: Mapping[str, Any]) -> tuple[tuple[RunSpec, ...], str, str]:
    """The trunks, the name of the results and the store's URL, all checked, the data there.

    A dry run writes nothing.
    """
    chosen, preset = get_experiment(given["experiment"]), named_preset(given["experiment"], given["preset"])
    trunks = trunk_specs(given["experiment"], preset, given["seeds"], given["settings"])
    title = given["name"] or automatic_name(preset, chosen.preset(preset), trunks[0], given["settings"])
    require_name("name", title)
    store = chosen_store(given["store"], asks=given["dry_run"])
    require_inputs(trunks, store, asks=given["dry_run"])
    return trunks, title, store
