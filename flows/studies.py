"""Turns the parameters of a flow into a checked study; imports neither Prefect nor Ray.

Computing modules are imported only for graphs and series, as sweeps do not need them for a status.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from specdyn.flows.engine.settings import chosen_store
from specdyn.flows.fields import named_preset
from specdyn.flows.parameters import AnalyseParameters, ConnectParameters, Parameters, SweepParameters, TicketParameters
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.checks import require
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.start import MASKS
from specdyn.storage.access.objects import normalise
from specdyn.storage.access.reading import normalise_source
from specdyn.storage.places import Store
from specdyn.tasks.plan.cells import require_inputs
from specdyn.tasks.plan.names import automatic_name, require_name
from specdyn.tasks.plan.plan import Study
from specdyn.tasks.plan.sweeps import Sweep, make_sweep

if TYPE_CHECKING:
    from specdyn.tasks.plan.branching.graph import Graph
    from specdyn.tasks.plan.series import SeriesStudy


def study_from(asked: Parameters) -> Study:
    """The study described by the parameters; writes nothing. ValueError or StoreError says what cannot work."""
    match asked:
        case SweepParameters():
            return sweep_from(asked)
        case ConnectParameters():
            return connectivity_from(asked)
        case TicketParameters():
            return tickets_from(asked)
        case AnalyseParameters():
            return series_from(asked)


def sweep_from(asked: SweepParameters) -> Sweep:
    """The requested sweep; empty values come from the preset. ValueError says what cannot work."""
    axes = asked.axes
    if asked.optimizers:
        require("optimizer" not in axes, "optimizers", asked.optimizers, "none beside an axis `optimizer`")
        axes = {**axes, "optimizer": list(asked.optimizers)}
    sweep = make_sweep(
        asked.experiment,
        named_preset(asked.experiment, asked.preset),
        weight_decays=asked.weight_decays or None,
        seeds=asked.seeds or None,
        sweep=asked.sweep or None,
        analyses=asked.analyses or None,
        axes=axes,
        settings=asked.settings,
    )
    return replace(sweep, more_seeds=asked.more_seeds)


def connectivity_from(asked: ConnectParameters) -> "Graph":
    """The requested graph of runs and lines. ValueError or StoreError says what cannot work."""
    from specdyn.tasks.plan.branching.graph import Lines, Noise, connectivity_graph
    from specdyn.tasks.plan.splits import split_steps

    trunks, title, store = _begin(asked)
    steps = split_steps(trunks[0], store, asked.splits or None, asked.split_count, asked.split_epochs or None)
    orders = asked.orders or [max(asked.seeds) + 1 + i for i in range(3)]
    noise = Noise(sizes=asked.sizes, directions=asked.directions or ("random",))
    lines = Lines(across=asked.across, layerwise=asked.layerwise, curve_steps=asked.curve_steps, points=asked.points)
    graph = connectivity_graph(title, trunks, steps, orders, noise, lines)
    return replace(graph, retrain=asked.retrain)


def tickets_from(asked: TicketParameters) -> "Graph":
    """The requested graph of runs and tickets. ValueError or StoreError says what cannot work."""
    from specdyn.tasks.plan.branching.graph import ticket_graph
    from specdyn.tasks.plan.splits import rewind_step

    trunks, title, store = _begin(asked)
    step = rewind_step(trunks[0], store, asked.rewind, asked.rewind_epoch)
    orders = asked.orders or [max(asked.seeds) + 1]
    graph = ticket_graph(title, trunks, step, asked.densities, asked.masks or MASKS, orders)
    return replace(graph, retrain=asked.retrain)


def series_from(asked: AnalyseParameters) -> "SeriesStudy":
    """The series of checkpoints found. ValueError or StoreError says what cannot work."""
    from specdyn.storage.foreign.found import Search
    from specdyn.storage.foreign.weights import Choice
    from specdyn.tasks.foreign.network.layout import Look
    from specdyn.tasks.foreign.network.tables import PairTable, read_pairs
    from specdyn.tasks.plan.series import SeriesStudy, choose, cube_name
    from specdyn.tasks.plan.sources import Given, look_at

    require(asked.audited or not asked.skip_damaged, "skip_damaged", True, "an audit, so not --no-audit")
    table = read_pairs(normalise(asked.pairs)) if asked.pairs else PairTable()
    how = Look(heads=asked.heads, transposed=asked.transposed, pairs=table)
    search = Search(
        pattern=asked.pattern,
        per_epoch=asked.steps_per_epoch,
        revisions=asked.revisions,
        choice=Choice(key=asked.key, weights=asked.weights, part=asked.part),
    )
    analyses = choose(asked.analyses or None)
    urls = list(dict.fromkeys(map(normalise_source, asked.sources)))
    given = Given(labels=asked.labels, metrics=normalise(asked.metrics) if asked.metrics else "")
    name = cube_name(asked.name or None, asked.sources, search, how)
    return SeriesStudy(
        name=name,
        sources=look_at(urls, search, how, given),
        analyses=analyses,
        audited=asked.audited,
        skip_damaged=asked.skip_damaged,
    )


def _begin(asked: ConnectParameters | TicketParameters) -> tuple[tuple[RunSpec, ...], str, Store]:
    """The base runs, the name of the results and the store, all checked."""
    from specdyn.tasks.plan.branching.graph import trunk_specs

    preset = named_preset(asked.experiment, asked.preset)
    trunks = trunk_specs(asked.experiment, preset, asked.seeds, asked.settings)
    chosen = get_experiment(asked.experiment).preset(preset)
    title = asked.name or automatic_name(preset, chosen, trunks[0], asked.settings)
    require_name("name", title)
    store = chosen_store(asked.store, asks=True)
    require_inputs(trunks, store, asks=True)
    return trunks, title, store
