"""What a sweep needs, what the store has of it, and what is left to do; read from the store alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from specdyn.models.datasets.base import get_dataset
from specdyn.models.experiments.base import get_experiment
from specdyn.models.spec.run_spec import RunSpec, own_settings
from specdyn.storage.checkpoints import Manifest, checkpoints_written, read_manifest, tensor_bytes
from specdyn.storage.commits import blocks_of, committed, marker
from specdyn.storage.places import Store
from specdyn.tasks.data.prepare import hold_data, require_data
from specdyn.tasks.identity import computed_on, origins_of, outdated, require_norm_run, results_id
from specdyn.tasks.plan.cost import Rates, checkpoint_bytes, schedule
from specdyn.tasks.plan.sweeps import Sweep, label
from specdyn.tasks.spectra.analysis import get_analysis

Block = tuple[int, ...]
"""Steps of the checkpoints that are analysed as one unit."""
COST_NOTHING = {"seed", "weight_decay", "learning_rate", "steps", "checkpoint_every", "decay_from", "decay_until"}
"""Settings that change neither the work of a step nor that of a checkpoint."""
State = Literal["done", "trained", "partial", "failed", "damaged", "new"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of the grid: what there is and what is missing."""

    spec: RunSpec
    label: str
    """Weight decay, seed, what else varies in the sweep, run_id."""
    state: State
    reason: str
    """Why the run failed, empty otherwise."""
    computed_on: str
    """What the run was trained on, empty until it is."""
    checkpoints: int
    """Checkpoints the finished run has."""
    written: int
    """Checkpoints there are."""
    blocks: int
    last_block: Block
    """In which what is said of the run as a whole is made."""
    missing: Mapping[Block, tuple[str, ...]]
    """Blocks of steps, each with the analyses it lacks."""
    stays_failed: bool = False
    """The run failed before, and is not tried again unless it is asked for."""
    results: str = ""
    """The id of the results of a run that is trained, by which they are kept; empty otherwise."""
    tensor_bytes: int = 0
    """Bytes of the tensors of each checkpoint of a run that is trained; 0 otherwise."""

    @property
    def to_train(self) -> bool:
        """Whether training is left to do."""
        return self.state not in ("done", "trained") and not self.stays_failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The cells of a sweep and what they will cost."""

    sweep: Sweep
    store: Store
    cells: tuple[Cell, ...]
    bytes: int
    """Checkpoints still to be written, in bytes."""
    seconds: float
    """Estimate of one unit working alone; 0 when nothing is left."""

    @property
    def todo(self) -> tuple[Cell, ...]:
        """Cells with something left to do."""
        return tuple(cell for cell in self.cells if cell.state != "done" and not cell.stays_failed)

    @property
    def failed(self) -> tuple[Cell, ...]:
        """Cells that failed before and stay so."""
        return tuple(cell for cell in self.cells if cell.stays_failed)


def missing_blocks(sweep: Sweep, store: Store, manifest: Manifest) -> dict[Block, tuple[str, ...]]:
    """Blocks of the run's checkpoints that lack analyses of the sweep."""
    commits = store.commits(manifest.experiment, results_id(manifest))
    return lacking(commits, manifest.steps, sweep.analyses)


def lacking(commits: str, steps: Block, analyses: Sequence[str]) -> dict[Block, tuple[str, ...]]:
    """Blocks of a run's steps that have no marker of some analyses, and these; one listing."""
    versions = {name: get_analysis(name).version for name in analyses}
    there = committed(commits, versions)
    missing = {
        block: tuple(name for name, version in versions.items() if marker(name, version, block) not in there)
        for block in blocks_of(steps)
    }
    return {block: names for block, names in missing.items() if names}


def require_inputs(specs: Sequence[RunSpec], store: Store, asks: bool = False) -> None:
    """Check that the store has what runs need besides their settings, and prepare the samples among the data sets.

    Where a call only `asks` samples are held in this process, and nothing is written. NotPrepared where a larger data
    set is missing; ValueError where a `norm_run` is no finished run of that network.
    """
    needed = [get_experiment(spec.experiment).dataset(spec) for spec in specs]
    for name in dict.fromkeys(filter(None, needed)):
        (hold_data if asks else require_data)(store, get_dataset(*name))
    for spec in {(spec.norms.run, spec.net): spec for spec in specs if spec.norms.run}.values():
        require_norm_run(spec, store)


def look_at(sweep: Sweep, store: Store, spec: RunSpec, retry_failed: bool = False) -> Cell:
    """The state of one cell; one that failed stays so unless it is to be tried again."""
    manifest = read_manifest(store.run_of(spec))
    reason = manifest.reason if manifest else ""
    if manifest and manifest.status == "complete" and not (reason := outdated(manifest, origins_of(spec, store))):
        steps, written = manifest.steps, len(manifest.checkpoints)
        missing = missing_blocks(sweep, store, manifest)
        state: State = "trained" if missing else "done"
        results, size = results_id(manifest), manifest.tensor_bytes
    else:
        steps, written = schedule(spec, store), checkpoints_written(store.run_of(spec))
        state = _unfinished(manifest, written)
        missing, results, size = dict.fromkeys(blocks_of(steps), sweep.analyses), "", 0
    return Cell(
        spec=spec,
        label=label(spec, sweep.varied),
        state=state,
        reason=reason,
        computed_on=computed_on(manifest) if manifest else "",
        checkpoints=len(steps),
        written=written,
        blocks=len(blocks_of(steps)),
        last_block=blocks_of(steps)[-1],
        missing=missing,
        stays_failed=state == "failed" and not retry_failed,
        results=results,
        tensor_bytes=size,
    )


def _unfinished(manifest: Manifest | None, written: int) -> State:
    if manifest is not None:
        return "failed" if manifest.status == "failed" else "damaged"
    return "partial" if written else "new"


def make_plan(sweep: Sweep, store: Store, estimate: bool = True, threads: int = 1, retry_failed: bool = False) -> Plan:
    """Look at every cell; with `estimate`, measure a few steps unless a finished run tells the time.

    They are measured with the threads of a unit. Runs that failed are left as they are unless `retry_failed`.
    """
    cells = tuple(look_at(sweep, store, spec, retry_failed) for spec in sweep.specs)
    size = _bytes_left(store, cells)
    seconds = _seconds(store, cells, threads) if estimate else 0.0
    return Plan(sweep=sweep, store=store, cells=cells, bytes=size, seconds=seconds)


def _bytes_left(store: Store, cells: Sequence[Cell]) -> int:
    """Bytes of the checkpoints that are left to write, by one that is there; a network is built where none is."""
    sizes = {(cell.spec.net, cell.spec.data): cell.tensor_bytes for cell in cells if cell.tensor_bytes}
    total = 0
    for cell in sorted((cell for cell in cells if cell.to_train), key=lambda cell: -cell.written):
        spec, kind = cell.spec, (cell.spec.net, cell.spec.data)
        if not sizes.get(kind):
            there = tensor_bytes(store.run_of(spec)) if cell.written else 0
            sizes[kind] = there or checkpoint_bytes(spec)
        total += sizes[kind] * (cell.checkpoints - min(cell.written, cell.checkpoints))
    return total


def _seconds(store: Store, cells: Sequence[Cell], threads: int) -> float:
    """Seconds of what is left, from one measurement for all cells that cost the same."""
    alike: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        if not cell.stays_failed:
            costly = tuple(value for name, value in own_settings(cell.spec).items() if name not in COST_NOTHING)
            alike.setdefault(costly, []).append(cell)
    return sum(_seconds_alike(store, group, threads) for group in alike.values())


def _seconds_alike(store: Store, cells: Sequence[Cell], threads: int) -> float:
    if all(cell.state == "done" for cell in cells):
        return 0.0
    from specdyn.tasks.plan.measuring import measure

    rates = measure(cells[0].spec, store, threads=threads)
    known = [cell.spec for cell in cells if not cell.to_train]
    if known and (manifest := read_manifest(store.run_of(known[0]))):
        rates = Rates(step=manifest.seconds / known[0].steps, checkpoint=rates.checkpoint)
    steps = sum(
        cell.spec.steps * (1 - min(cell.written, cell.checkpoints) / cell.checkpoints)
        for cell in cells
        if cell.to_train
    )
    checkpoints = sum(len(block) for cell in cells for block in cell.missing)
    return steps * rates.step + checkpoints * rates.checkpoint
