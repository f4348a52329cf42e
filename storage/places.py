"""Where each thing of a store lies."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything of one store lies; every method gives a URL."""

    store: str

    def schema(self) -> str:
        """The object that says which version of the layout the store has."""
        return f"{self.store}/specdyn.json"

    def run_folder(self, experiment: str, run_id: str) -> str:
        """Checkpoints, state and manifest of a run."""
        return f"{self.store}/checkpoints/{experiment}/{run_id}"

    def checkpoint(self, experiment: str, run_id: str, step: int) -> str:
        """Weights and buffers at a step."""
        return f"{self.run_folder(experiment, run_id)}/step={step:08d}.safetensors"

    def states(self, experiment: str, run_id: str) -> str:
        """Folder of optimizer and generator states."""
        return f"{self.run_folder(experiment, run_id)}/state"

    def manifest(self, experiment: str, run_id: str) -> str:
        """The object whose existence means that training ended."""
        return f"{self.run_folder(experiment, run_id)}/manifest.json"

    def mask(self, mask_id: str) -> str:
        """The bits of a mask, named by its content."""
        return f"{self.store}/masks/{mask_id}.safetensors"

    def connections(self, experiment: str) -> str:
        """Folder of what was measured between runs."""
        return f"{self.store}/connections/{experiment}"

    def graphs(self) -> str:
        """Folder of the records of graphs."""
        return f"{self.store}/connections"

    def graph(self, name: str, kind: str) -> str:
        """The record of a graph of runs: what belongs to it."""
        return f"{self.graphs()}/{name}-{kind}.json"

    def connectivity(self, name: str) -> str:
        """The cube of the pairs of a graph of runs."""
        return f"{self.sweeps()}/{name}-connectivity.zarr"

    def tickets(self, name: str) -> str:
        """The cube of the lottery tickets of a graph of runs."""
        return f"{self.sweeps()}/{name}-tickets.zarr"

    def run_store(self, experiment: str, results_id: str) -> str:
        """The Zarr of a run's results, whose id says what they are of."""
        return f"{self.store}/runs/{experiment}/{results_id}.zarr"

    def commits(self, experiment: str, results_id: str) -> str:
        """Folder of markers, one for each analysis and block of checkpoints."""
        return f"{self.store}/runs/{experiment}/{results_id}.commits"

    def sweeps(self) -> str:
        """Folder of the sweeps: their records and cubes."""
        return f"{self.store}/sweeps"

    def sweep(self, name: str) -> str:
        """The record of a sweep: which specs belong to it."""
        return f"{self.sweeps()}/{name}.json"

    def cube(self, name: str) -> str:
        """The sweep's results as one Zarr."""
        return f"{self.sweeps()}/{name}.zarr"

    def lease(self, cube: str) -> str:
        """Folder of the lease of a cube: who holds it may write what the cube is made of, and the cube."""
        return f"{self.store}/leases/{cube.rsplit('/', 1)[-1]}"

    def series(self, digest: str) -> str:
        """The record of what the files of a series of other programs' checkpoints hold, by a digest of its place."""
        return f"{self.store}/series/{digest}.json"

    def logs(self, experiment: str, run_id: str) -> str:
        """Folder of what the units of a run logged, or those of a pair of runs by its id."""
        return f"{self.store}/logs/{experiment}/{run_id}"

    def report(self, name: str) -> str:
        """Folder of a sweep's figures."""
        return f"{self.store}/reports/{name}"

    def dataset(self, key: str) -> str:
        """Folder of a prepared data set: its arrays, and its manifest."""
        return f"{self.store}/data/{key}"

    def data_manifest(self, key: str) -> str:
        """The object whose existence means that the data set is prepared."""
        return f"{self.dataset(key)}/manifest.json"
