"""The quadratic Bezier curve between two networks whose control point is trained for a low loss along it (CLAIMS 4)."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call

from specdyn.models import generators
from specdyn.models.experiments.base import experiment_of
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.places import Store
from specdyn.tasks.connect.paths import bezier, blend
from specdyn.tasks.evaluation.environment import pick_device
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.spectra.nulls import generator
from specdyn.tasks.training.numerics import numerics
from specdyn.tasks.training.training import Batches

RATE = 1e-3
"""Learning rate of Adam, which moves the control point whatever trained the ends."""


def train_control(
    spec: RunSpec, store: Store, a: Mapping[str, Tensor], b: Mapping[str, Tensor], steps: int
) -> dict[str, Tensor]:
    """The control point after so many updates, each of one batch at one place drawn evenly on the curve.

    Begins at the middle of the straight line. Buffers stay there: statistics of BatchNorm are to be estimated again.
    """
    experiment, device = experiment_of(spec), pick_device()
    net = experiment.net(spec).to(device).train()
    batches = Batches(spec, load_examples(spec, store)["train"].to(device))
    first, last = ({name: tensor.to(device) for name, tensor in end.items()} for end in (a, b))
    control = {name: tensor.clone() for name, tensor in blend(first, last, 0.5).items()}
    moved = [control[name].requires_grad_() for name, _ in net.named_parameters()]
    optimizer, draw = torch.optim.Adam(moved, lr=RATE), generator(f"curve {spec.run_id}")
    with numerics(spec, device):
        generators.seed(spec.order_seed, device)
        for step in range(steps):
            t = float(torch.rand((), generator=draw))
            batch = batches(step)
            outputs = functional_call(net, bezier(first, control, last, t), (batch.inputs,))
            optimizer.zero_grad()
            experiment.loss(spec, outputs, batch).backward()
            optimizer.step()
    return {name: tensor.detach().cpu() for name, tensor in control.items()}
