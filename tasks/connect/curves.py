"""Trains the control point of a quadratic Bezier curve between two networks for low loss along it (CLAIMS 4)."""

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
"""Learning rate of Adam, which trains the control point whatever optimizer trained the ends."""


def train_control(
    spec: RunSpec, store: Store, a: Mapping[str, Tensor], b: Mapping[str, Tensor], steps: int
) -> dict[str, Tensor]:
    """The control point after `curve_steps` updates, each with one batch at a uniformly random point of the curve.

    Starts at the midpoint of the line. Buffers stay there, so BatchNorm statistics must be re-estimated.
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
