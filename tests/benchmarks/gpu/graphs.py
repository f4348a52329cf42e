"""Training of small networks in full batches as captured CUDA graphs, several updates each."""

from collections.abc import Callable

import torch

from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.experiments.base import get_experiment
from specdyn.models.nets.transformer import TransformerNet
from specdyn.models.spec.run_spec import RunSpec
from specdyn.tasks.training.numerics import choose_forward

CAPTURED = 10
"""Updates of one graph; in a full batch each is an epoch."""


def fits(spec: RunSpec) -> bool:
    """Whether the inputs of all updates are the same, as a graph needs them, and one optimizer moves all weights."""
    return spec.batch_size is None and spec.optimizer.name == "adamw"


def graph_steps(spec: RunSpec, data: Examples) -> Callable[[int], object]:
    """At least that many updates at each call, a whole number of graphs; RuntimeError where there is no GPU."""
    if data.targets.device.type != "cuda":
        raise RuntimeError(f"CUDA graphs need a GPU, and the data is on the {data.targets.device.type}")
    experiment, chosen = get_experiment(spec.experiment), spec.optimizer
    net = experiment.net(spec).to(data.targets.device).train()
    if isinstance(net, TransformerNet):
        net.train_by_tables = choose_forward(spec, net, len(data.targets)) == "tables"
    optimizer = torch.optim.AdamW(
        net.parameters(),
        lr=chosen.learning_rate,
        betas=(chosen.beta1, chosen.beta2),
        eps=chosen.epsilon,
        weight_decay=spec.decay.weight_decay,
        fused=True,
        capturable=True,
    )

    def update() -> None:
        optimizer.zero_grad(set_to_none=True)
        experiment.loss(spec, net(data.inputs), data).backward()
        optimizer.step()

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # what is allocated and looked at once is not to be captured
        for _ in range(3):
            update()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CAPTURED):
            update()

    def steps(count: int) -> None:
        for _ in range(-(-count // CAPTURED)):
            graph.replay()

    return steps
