"""A store and a run in it, and the URL of everything they hold."""

from dataclasses import dataclass
from typing import Protocol

PROBE = ".probe-"
"""How the name of a folder begins in which a store is tried, which goes at once unless the process is killed."""


class Identified(Protocol):
    """What names a run: a RunSpec or a Manifest."""

    @property
    def experiment(self) -> str:
        """Name of the experiment."""
        ...

    @property
    def run_id(self) -> str:
        """Hash of the spec."""
        ...


@dataclass(frozen=True, slots=True)
class Store:
    """A store by its normalised URL; every method returns the URL of something in it."""

    url: str

    def __str__(self) -> str:
        return self.url

    def run(self, experiment: str, run_id: str) -> "Run":
        """The run of that id, trained or not."""
        return Run(self, experiment, run_id)

    def run_of(self, named: Identified) -> "Run":
        """The run of a spec or a manifest."""
        return Run(self, named.experiment, named.run_id)

    @property
    def schema(self) -> str:
        """The object that says which version of the layout the store has."""
        return f"{self.url}/specdyn.json"

    def checkpoints(self, experiment: str = "") -> str:
        """Folder of all runs, or of an experiment's."""
        return f"{self.url}/checkpoints" + (f"/{experiment}" if experiment else "")

    def mask(self, mask_id: str) -> str:
        """The bits of a mask, named by its content."""
        return f"{self.url}/masks/{mask_id}.safetensors"

    def manifests(self, experiment: str) -> str:
        """Folder of what says that runs of an experiment are trained."""
        return f"{self.url}/runs/{experiment}"

    @property
    def results(self) -> str:
        """Folder of all that units of work measured."""
        return f"{self.url}/results"

    def measured(self, kind: str, experiment: str) -> str:
        """Folder of what was measured of one kind: of `runs`, of `ends`, `pairs` or `tickets`."""
        return f"{self.results}/{kind}/{experiment}"

    def run_results(self, experiment: str, results_id: str) -> str:
        """Folder of a run's results, whose id says what they are of: an object for a block of checkpoints."""
        return f"{self.measured('runs', experiment)}/{results_id}"

    def result(self, kind: str, experiment: str, results_id: str) -> str:
        """What was measured of an end, a pair or a ticket, whose id has the digest of all that decides it."""
        return f"{self.measured(kind, experiment)}/{results_id}.safetensors"

    @property
    def scratch(self) -> str:
        """Folder of what several tasks of a call share while it runs."""
        return f"{self.url}/scratch"

    @property
    def studies(self) -> str:
        """Folder of the studies: their records and cubes."""
        return f"{self.url}/studies"

    def study(self, name: str, kind: str) -> str:
        """The record of a study: what belongs to it."""
        return f"{self.studies}/{name}/{kind}.json"

    def cube(self, name: str) -> str:
        """The results of a sweep, or of series of checkpoints, as one Zarr."""
        return f"{self.studies}/{name}/results.zarr"

    def connectivity(self, name: str) -> str:
        """The cube of the pairs of a graph of runs."""
        return f"{self.studies}/{name}/connectivity.zarr"

    def tickets(self, name: str) -> str:
        """The cube of the lottery tickets of a graph of runs."""
        return f"{self.studies}/{name}/tickets.zarr"

    def verdicts(self, name: str) -> str:
        """Folder of the verdicts on a study: each is put once, and its name says of which rule and which results."""
        return f"{self.studies}/{name}/claims"

    @property
    def leases(self) -> str:
        """Folder of all leases."""
        return f"{self.url}/leases"

    def lease(self, cube: str) -> str:
        """Folder of the lease of a cube: who holds it may write what the cube is made of, and the cube."""
        return f"{self.leases}/{'.'.join(cube.rsplit('/', 2)[-2:])}"

    @property
    def reservations(self) -> str:
        """Folder of the reservations of work that studies share."""
        return f"{self.url}/reservations"

    def reservation(self, key: str) -> str:
        """The reservation of a piece of work, by its key."""
        return f"{self.reservations}/{key}"

    def series(self, digest: str) -> str:
        """The record of what the files of a series of other programs' checkpoints hold, by a digest of its place."""
        return f"{self.url}/series/{digest}.json"

    def recording(self, name: str) -> "Recording":
        """What a training loop of one's own recorded under a name, or will."""
        return Recording(self, name)

    def logs(self, experiment: str, run_id: str = "") -> str:
        """Folder of what the units of a run logged and took, or those of a pair of runs by its id; or of all units."""
        return f"{self.url}/logs/{experiment}" + (f"/{run_id}" if run_id else "")

    @property
    def reports(self) -> str:
        """Folder of the reports."""
        return f"{self.url}/reports"

    def report(self, name: str) -> str:
        """Folder of a sweep's figures."""
        return f"{self.reports}/{name}"

    def dataset(self, key: str) -> str:
        """Folder of a prepared data set: its arrays, and its manifest."""
        return f"{self.url}/data/{key}"

    def data_manifest(self, key: str) -> str:
        """The object whose existence means that the data set is prepared."""
        return f"{self.dataset(key)}/manifest.json"


@dataclass(frozen=True, slots=True)
class Run:
    """A training run in a store, by its experiment and run_id."""

    store: Store
    experiment: str
    run_id: str

    @property
    def folder(self) -> str:
        """Checkpoints and training state."""
        return f"{self.store.checkpoints(self.experiment)}/{self.run_id}"

    def checkpoint(self, step: int) -> str:
        """Weights and buffers at a step."""
        return f"{self.folder}/{named(step)}.safetensors"

    @property
    def states(self) -> str:
        """Folder of optimizer and generator states."""
        return f"{self.folder}/state"

    @property
    def manifest(self) -> str:
        """The object whose existence means that training ended."""
        return f"{self.store.manifests(self.experiment)}/{self.run_id}.json"

    @property
    def logs(self) -> str:
        """Folder of what the run's tasks logged."""
        return self.store.logs(self.experiment, self.run_id)


@dataclass(frozen=True, slots=True)
class Recording:
    """What a training loop of one's own recorded in a store, by its name."""

    store: Store
    name: str

    @property
    def folder(self) -> str:
        """Everything of it; `specdyn analyse` takes this place."""
        return f"{self.store.url}/recorded/{self.name}"

    def checkpoint(self, step: int) -> str:
        """Weights and buffers at a step."""
        return f"{self.folder}/{named(step)}.safetensors"

    @property
    def spectra(self) -> str:
        """Folder of the singular values, where these are recorded instead of checkpoints."""
        return f"{self.folder}/spectra"

    def spectrum(self, step: int) -> str:
        """The singular values at a step."""
        return f"{self.spectra}/{named(step)}.safetensors"

    @property
    def table(self) -> str:
        """All singular values together, as xarray opens them; written at the end."""
        return f"{self.folder}/spectra.nc"

    @property
    def metrics(self) -> str:
        """Folder of the lines of metrics."""
        return f"{self.folder}/metrics"

    def lines(self, step: int) -> str:
        """The lines that end with a step, and begin after the object before it."""
        return f"{self.metrics}/{named(step)}.jsonl"

    @property
    def labels(self) -> str:
        """The scalar settings: what tells this training from others."""
        return f"{self.folder}/labels.json"

    @property
    def record(self) -> str:
        """What it is: all settings, when it records, whether it ended."""
        return f"{self.folder}/recording.json"

    @property
    def lease(self) -> str:
        """Folder of the lease of who records."""
        return f"{self.folder}/lease"


def named(step: int) -> str:
    """How names of objects of a step begin."""
    return f"step={step:08d}"
