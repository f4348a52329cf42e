"""What a sweep needs, what the store has of it, and what is left to do; read from the store alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from flows.sweep import Sweep, label
from models.run_spec import RunSpec
from storage.checkpoints import Manifest, checkpoints_written, read_manifest
from storage.locations import Layout
from storage.results import blocks_of, committed, marker
from tasks.analysis import get_analysis
from tasks.estimate import Rates, checkpoint_bytes, measure, schedule

Block = tuple[int, ...]
"""Steps of the checkpoints that are analysed as one unit."""
State = Literal["done", "trained", "partial", "failed", "damaged", "new"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of the grid: what there is and what is missing."""

    spec: RunSpec
    state: State
    reason: str
    """Why the run failed, empty otherwise."""
    checkpoints: int
    """Checkpoints the finished run has."""
    written: int
    """Checkpoints there are."""
    blocks: int
    missing: Mapping[Block, tuple[str, ...]]
    """Blocks of steps, each with the analyses it lacks."""

    @property
    def label(self) -> str:
        """Weight decay, seed and run_id."""
        return label(self.spec)

    @property
    def to_train(self) -> bool:
        """Whether training is left to do."""
        return self.state not in ("done", "trained")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The cells of a sweep and what they will cost."""

    sweep: Sweep
    store: str
    cells: tuple[Cell, ...]
    bytes: int
    """Checkpoints still to be written, in bytes."""
    seconds: float
    """Estimate of one unit working alone; 0 when nothing is left."""

    @property
    def todo(self) -> tuple[Cell, ...]:
        """Cells with something left to do."""
        return tuple(cell for cell in self.cells if cell.state != "done")


def missing_blocks(sweep: Sweep, store: str, spec: RunSpec, steps: Block) -> dict[Block, tuple[str, ...]]:
    """Blocks of the run's checkpoints that lack analyses of the sweep."""
    return lacking(Layout(store).commits(spec.experiment, spec.run_id), steps, sweep.analyses)


def lacking(commits: str, steps: Block, analyses: Sequence[str]) -> dict[Block, tuple[str, ...]]:
    """Blocks of a run's steps that have no marker of some analyses, and these; one listing an analysis."""
    versions = {name: get_analysis(name).version for name in analyses}
    there = committed(commits, versions)
    missing = {
        block: tuple(name for name, version in versions.items() if marker(name, version, block) not in there)
        for block in blocks_of(steps)
    }
    return {block: names for block, names in missing.items() if names}


def look_at(sweep: Sweep, store: str, spec: RunSpec, steps: tuple[int, ...]) -> Cell:
    """The state of one cell; `steps` is the schedule of a run that ends well."""
    manifest = read_manifest(store, spec.experiment, spec.run_id)
    if manifest is None or manifest.status != "complete":
        written = checkpoints_written(store, spec.experiment, spec.run_id)
        state: State = _unfinished(manifest, written)
        missing = dict.fromkeys(blocks_of(steps), sweep.analyses)
    else:
        written = len(manifest.checkpoints)
        missing = missing_blocks(sweep, store, spec, manifest.steps)
        state = "trained" if missing else "done"
    return Cell(
        spec=spec,
        state=state,
        reason=manifest.reason if manifest else "",
        checkpoints=len(steps),
        written=written,
        blocks=len(blocks_of(steps)),
        missing=missing,
    )


def _unfinished(manifest: Manifest | None, written: int) -> State:
    if manifest is not None:
        return "damaged" if manifest.status == "damaged" else "failed"
    return "partial" if written else "new"


def make_plan(sweep: Sweep, store: str, estimate: bool = True) -> Plan:
    """Look at every cell; with `estimate`, measure a few steps unless a finished run tells the time."""
    # Specs of one grid differ in weight decay and seed, which change neither schedule nor size.
    steps = schedule(sweep.specs[0], store)
    cells = tuple(look_at(sweep, store, spec, steps) for spec in sweep.specs)
    to_write = sum(cell.checkpoints - min(cell.written, cell.checkpoints) for cell in cells if cell.to_train)
    seconds = _seconds(sweep, store, cells) if estimate else 0.0
    size = to_write * checkpoint_bytes(sweep.specs[0])
    return Plan(sweep=sweep, store=store, cells=cells, bytes=size, seconds=seconds)


def _seconds(sweep: Sweep, store: str, cells: tuple[Cell, ...]) -> float:
    if all(cell.state == "done" for cell in cells):
        return 0.0
    spec = sweep.specs[0]
    rates = measure(spec, store)
    known = [cell for cell in cells if not cell.to_train]
    if known and (manifest := read_manifest(store, spec.experiment, known[0].spec.run_id)):
        rates = Rates(step=manifest.seconds / spec.steps, checkpoint=rates.checkpoint)
    training = sum(
        spec.steps * (1 - min(cell.written, cell.checkpoints) / cell.checkpoints) for cell in cells if cell.to_train
    )
    analysing = sum(len(block) for cell in cells for block in cell.missing)
    return training * rates.step + analysing * rates.checkpoint
