"""The layout of a store: the URL of everything in it."""

from dataclasses import dataclass
from typing import Protocol

PROBE = ".probe-"
"""Prefix of the temporary folder in which a store is checked."""


class Identified(Protocol):
    """Anything that identifies a run: a RunSpec or a Manifest."""

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
        """The object with the version of the store's layout."""
        return f"{self.url}/specdyn.json"

    def checkpoints(self, experiment: str = "") -> str:
        """Folder of all runs, or of one experiment's."""
        return f"{self.url}/checkpoints" + (f"/{experiment}" if experiment else "")

    def mask(self, mask_id: str) -> str:
        """The bits of a mask, named by its content."""
        return f"{self.url}/masks/{mask_id}.safetensors"

    def manifests(self, experiment: str) -> str:
        """Folder of the manifests of an experiment's runs."""
        return f"{self.url}/runs/{experiment}"

    @property
    def results(self) -> str:
        """Folder of all results."""
        return f"{self.url}/results"

    def measured(self, kind: str, experiment: str) -> str:
        """Folder of the results of one kind: `runs`, `ends`, `pairs` or `tickets`."""
        return f"{self.results}/{kind}/{experiment}"

    def run_results(self, experiment: str, results_id: str) -> str:
        """Folder of a run's results, by their id; one object per block of checkpoints."""
        return f"{self.measured('runs', experiment)}/{results_id}"

    def result(self, kind: str, experiment: str, results_id: str) -> str:
        """The result of an end, a pair or a ticket; its id includes the digest of all that determines it."""
        return f"{self.measured(kind, experiment)}/{results_id}.safetensors"

    @property
    def scratch(self) -> str:
        """Folder of data that tasks of a call share while it runs."""
        return f"{self.url}/scratch"

    @property
    def studies(self) -> str:
        """Folder of the studies: their records and cubes."""
        return f"{self.url}/studies"

    def study(self, name: str, kind: str) -> str:
        """The record of a study: its runs, pairs and series."""
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
        """Folder of the verdicts on a study: each is written once and named by the digests of rule and results."""
        return f"{self.studies}/{name}/claims"

    @property
    def leases(self) -> str:
        """Folder of all leases."""
        return f"{self.url}/leases"

    def lease(self, cube: str) -> str:
        """Folder of the lease of a cube; its holder may write the cube and the results in it."""
        return f"{self.leases}/{'.'.join(cube.rsplit('/', 2)[-2:])}"

    @property
    def reservations(self) -> str:
        """Folder of the reservations of work that studies share."""
        return f"{self.url}/reservations"

    def reservation(self, key: str) -> str:
        """The reservation of a piece of work, by its key."""
        return f"{self.reservations}/{key}"

    def series(self, digest: str) -> str:
        """The record of content digests of a series of other programs' checkpoints, by a digest of its URL."""
        return f"{self.url}/series/{digest}.json"

    def recording(self, name: str) -> "Recording":
        """The recording of that name, existing or not."""
        return Recording(self, name)

    def logs(self, experiment: str, run_id: str = "") -> str:
        """Folder of the logs and costs of the units of a run, of a pair of runs by its id, or of all units."""
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
        """The manifest of a data set; its existence means that the data set is prepared."""
        return f"{self.dataset(key)}/manifest.json"


@dataclass(frozen=True, slots=True)
class Run:
    """A training run in a store, by its experiment and run_id."""

    store: Store
    experiment: str
    run_id: str

    @property
    def folder(self) -> str:
        """Folder of checkpoints and training states."""
        return f"{self.store.checkpoints(self.experiment)}/{self.run_id}"

    def checkpoint(self, step: int) -> str:
        """Weights and buffers at a step."""
        return f"{self.folder}/{named(step)}.safetensors"

    @property
    def states(self) -> str:
        """Folder of training states (optimizer, generators)."""
        return f"{self.folder}/state"

    @property
    def manifest(self) -> str:
        """The manifest; its existence means that training ended."""
        return f"{self.store.manifests(self.experiment)}/{self.run_id}.json"

    @property
    def logs(self) -> str:
        """Folder of the logs of the run's tasks."""
        return self.store.logs(self.experiment, self.run_id)


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording of a user's own training loop in a store, by its name."""

    store: Store
    name: str

    @property
    def folder(self) -> str:
        """Folder of the whole recording; a source for `specdyn analyse`."""
        return f"{self.store.url}/recorded/{self.name}"

    def checkpoint(self, step: int) -> str:
        """Weights and buffers at a step."""
        return f"{self.folder}/{named(step)}.safetensors"

    @property
    def spectra(self) -> str:
        """Folder of the singular values, if they are recorded instead of checkpoints."""
        return f"{self.folder}/spectra"

    def spectrum(self, step: int) -> str:
        """The singular values at a step."""
        return f"{self.spectra}/{named(step)}.safetensors"

    @property
    def table(self) -> str:
        """All singular values as one Zarr for xarray; written at the end."""
        return f"{self.folder}/spectra.nc"

    @property
    def metrics(self) -> str:
        """Folder of the metrics."""
        return f"{self.folder}/metrics"

    def lines(self, step: int) -> str:
        """The metrics up to a step, starting after the previous object's."""
        return f"{self.metrics}/{named(step)}.jsonl"

    @property
    def labels(self) -> str:
        """The scalar settings, which distinguish this training from others."""
        return f"{self.folder}/labels.json"

    @property
    def record(self) -> str:
        """The record: all settings, the schedule, whether it has ended."""
        return f"{self.folder}/recording.json"

    @property
    def lease(self) -> str:
        """Folder of the recording process's lease."""
        return f"{self.folder}/lease"


def named(step: int) -> str:
    """Prefix of the names of a step's objects."""
    return f"step={step:08d}"
