"""Principal components of the trajectory through weight space, by layer and for the whole network (CLAIMS 4, 5.11).

Once per run: every checkpoint is read once. Layers with more than 16384 weights (fewer if a run has so many checkpoints
that they would exceed 512 MiB) are represented by a random sketch; explained shares then have a relative error of about
sqrt(2 / width), 1 % at that width.
"""

import numpy as np

from specdyn.storage.schema import Variable
from specdyn.tasks.spectra.analysis import Analysis, RunView, Values
from specdyn.tasks.spectra.labels import COMPONENTS


def compute(view: RunView) -> Values:
    """Explained variance, coordinates and participation ratio by layer; the first two also for all layers together."""
    from specdyn.tasks.spectra.trajectories import centred_gram, kept_width, principal, sketch

    width, steps = kept_width(len(view.layers), len(view.steps)), len(view.steps)
    # Layers missing from some checkpoints do not move, and do not contribute to the network's trajectory.
    points: list[list[np.ndarray]] = [[] for _ in view.layers]
    for step in view.steps if steps > 1 else ():  # a single point has no trajectory
        weights = view.read(step)
        for kept, layer in zip(points, view.layers, strict=True):
            if layer.parameter not in view.absent:
                kept.append(sketch(layer.of(weights), width, layer.name))
    grams = [centred_gram(np.stack(kept)) if kept else np.zeros((steps, steps)) for kept in points]
    paths, network = [principal(gram) for gram in grams], principal(np.sum(grams, axis=0))
    return {
        "trajectory_explained_variance": np.stack([path.explained for path in paths]),
        "trajectory_coordinate": np.stack([path.coordinates for path in paths]),
        "trajectory_participation_ratio": np.array([path.participation for path in paths]),
        "network_trajectory_explained_variance": network.explained,
        "network_trajectory_coordinate": network.coordinates,
    }


ANALYSIS = Analysis(
    name="trajectory",
    version=1,
    of="run",
    needs_vectors=False,
    variables={
        "trajectory_explained_variance": Variable(
            dims=("layer", "component"),
            long_name="variance of the layer's trajectory along a component",
            about="v_k / sum v, v the eigenvalues of the Gram matrix of W_t - mean W over checkpoints; CLAIMS 5.11",
        ),
        "trajectory_coordinate": Variable(
            dims=("layer", "step", "component"),
            long_name="coordinate of the layer's trajectory",
            about="sqrt(v_k) times the k-th eigenvector, positive at the last checkpoint; CLAIMS 5.11",
        ),
        "trajectory_participation_ratio": Variable(
            dims=("layer",),
            long_name="participation ratio of the layer's trajectory",
            about="(sum v)^2 / sum v^2; CLAIMS 5.11",
        ),
        "network_trajectory_explained_variance": Variable(
            dims=("component",),
            long_name="variance of the network's trajectory along a component",
            about="v_k / sum v, all layers as one vector; CLAIMS 5.11",
        ),
        "network_trajectory_coordinate": Variable(
            dims=("step", "component"),
            long_name="coordinate of the network's trajectory",
            about="sqrt(v_k) times the k-th eigenvector, positive at the last checkpoint; CLAIMS 5.11",
        ),
    },
    compute=compute,
    labels={"component": tuple(range(1, COMPONENTS + 1))},
)
