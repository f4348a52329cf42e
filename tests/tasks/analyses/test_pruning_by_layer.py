"""One layer after another loses half of its singular values: against layers cut by numpy."""

import numpy as np
import torch

from specdyn.models.experiments.base import get_experiment
from specdyn.models.nets.matrices import layers
from specdyn.models.spec.settings import with_settings
from specdyn.storage.places import Store
from specdyn.tasks.evaluation.evaluator import Evaluator
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.spectra.analysis import CheckpointView, Decomposed, get_analysis
from specdyn.tasks.spectra.decomposition import decompose


def test_each_layer_is_cut_by_itself_the_last_one_too(local_store: Store) -> None:
    experiment = get_experiment("modular_addition")
    spec = with_settings(experiment.preset("smoke").spec, width=8, feedforward=8)
    net = experiment.net(spec)
    weights = {name: w.clone() for name, w in net.state_dict().items()}
    evaluate = Evaluator(experiment, spec, net, load_examples(spec, local_store), torch.device("cpu"))
    found = get_analysis("pruning_by_layer").compute(
        CheckpointView(
            now=Decomposed(
                step=0,
                weights=weights,
                factors={layer.name: decompose(layer.of(weights)) for layer in layers(net)},
            ),
            layers=layers(net),
            evaluate=evaluate,
        )
    )
    whole = evaluate(weights)["loss"]
    assert found["layer_pruned_loss"].shape == found["layer_pruned_err"].shape == (len(layers(net)), 2)
    for i, layer in enumerate(layers(net)):
        u, s, vt = np.linalg.svd(weights[layer.parameter].double().numpy(), full_matrices=False)
        half = -(-len(s) // 2)
        cut = torch.tensor((u[:, :half] * s[:half]) @ vt[:half], dtype=torch.float32)
        expected = evaluate({**weights, layer.parameter: cut})["loss"]
        np.testing.assert_allclose(found["layer_pruned_loss"][i], expected, rtol=1e-4)
        assert not np.array_equal(found["layer_pruned_loss"][i], whole)
    assert not get_analysis("pruning_by_layer").default
