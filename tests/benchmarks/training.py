"""Training steps a second against the plainest PyTorch loop."""

import math
import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from specdyn.models.datasets.base import get_dataset
from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.datasets.decoders.modular_addition import ModularAddition
from specdyn.models.experiments.base import experiment_names, get_experiment
from specdyn.models.nets.transformer import positional_table
from specdyn.models.spec.architectures import Transformer
from specdyn.models.spec.run_spec import RunSpec
from specdyn.storage.places import Store
from specdyn.tasks.data.prepare import require_data
from specdyn.tasks.evaluation.environment import use_threads
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.training.numerics import numerics
from specdyn.tasks.training.training import Loop

STEPS = {"demo": 200, "sample": 40}
"""Presets that are timed in every experiment that has them, with the steps that are made."""
FULL_BATCH, FULL_BATCH_STEPS = ("paper", "slingshot", "data-rich"), 10
"""Presets of modular addition that are trained on the whole training set at once."""
ROUNDS = 3


class PlainTransformer(nn.Module):
    """The same network from torch's own parts, without our shortcuts."""

    def __init__(self, tokens: int, config: Transformer) -> None:
        super().__init__()
        self.width = width = config.width
        self.encoder = nn.Embedding(tokens, width)
        layer = nn.TransformerEncoderLayer(
            width, config.heads, config.feedforward, dropout=0.0, norm_first=True, batch_first=True
        )
        if not config.layernorm:
            layer.norm1 = layer.norm2 = nn.Identity()  # type: ignore[assignment]
        self.transformer_encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.decoder = nn.Linear(width, tokens)
        self.register_buffer("pe", positional_table(3, width))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(3))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the last position, after all have been computed."""
        x = self.encoder(tokens) * math.sqrt(self.width) + self.pe
        return self.decoder(self.transformer_encoder(x, mask=self.mask))[:, -1]


def rows() -> list[tuple[str, str, str, str, str]]:
    """Steps a second of the pipeline's loop and of the plainest one, for every experiment that there is."""
    use_threads(1)
    cases = [(name, preset, steps) for name in experiment_names() for preset, steps in STEPS.items()]
    there = [case for case in cases if case[1] in get_experiment(case[0]).presets]
    there += [("modular_addition", preset, FULL_BATCH_STEPS) for preset in FULL_BATCH]
    with tempfile.TemporaryDirectory() as folder:
        return [row(*case, Store(folder)) for case in there]


def row(name: str, preset: str, steps: int, store: Store) -> tuple[str, str, str, str, str]:
    """Steps a second of one preset."""
    experiment = get_experiment(name)
    spec = experiment.preset(preset).spec
    if needed := experiment.dataset(spec):
        require_data(store, get_dataset(*needed))
    data = load_examples(spec, store)["train"]
    ours, plain = our_loop(spec, data, steps), plain_loop(spec, data, steps)
    rates = {"plain": 0.0, "ours": 0.0}
    for _ in range(ROUNDS):
        for kind, loop in (("plain", plain), ("ours", ours)):
            rates[kind] = max(rates[kind], steps / seconds(loop))
    how = f"{steps} steps, 1 thread, best of {ROUNDS}, alternating"
    cells = f"{rates['plain']:.1f}", f"{rates['ours']:.1f}", f"{rates['ours'] / rates['plain']:.2f}x"
    return (f"training steps/s ({name}, {preset})", *cells, how)


def seconds(loop: Callable[[], object]) -> float:
    """Wall time of a loop."""
    since = time.perf_counter()
    loop()
    return time.perf_counter() - since


def our_loop(spec: RunSpec, data: Examples, steps: int) -> Callable[[], object]:
    """The pipeline's own loop, with its settings of determinism and precision."""
    experiment, cpu = get_experiment(spec.experiment), torch.device("cpu")
    loop = Loop(experiment, spec, experiment.net(spec).train(), data)

    def run() -> None:
        with numerics(spec, cpu):
            loop.run(0, steps)

    return run


def plain_net(spec: RunSpec) -> nn.Module:
    """The experiment's network; the transformer of modular addition from torch's own parts."""
    if isinstance(spec.data, ModularAddition):
        return PlainTransformer(spec.data.prime + 1, spec.net)
    return get_experiment(spec.experiment).net(spec).train()


def plain_loop(spec: RunSpec, data: Examples, steps: int) -> Callable[[], object]:
    """That many steps of `plain_steps` at each call."""
    make = plain_steps(spec, data)
    return lambda: make(steps)


def plain_steps(spec: RunSpec, data: Examples) -> Callable[[int], object]:
    """Torch's own optimizer and shuffling at a constant learning rate, as one would write them first."""
    device = data.targets.device
    experiment, net = get_experiment(spec.experiment), plain_net(spec).to(device)
    rate, decay = spec.optimizer.learning_rate, spec.decay.weight_decay
    optimizer = (
        torch.optim.SGD(net.parameters(), lr=rate, momentum=spec.optimizer.momentum, weight_decay=decay)
        if spec.optimizer.name == "sgd"
        else torch.optim.AdamW(
            net.parameters(), lr=rate, betas=(spec.optimizer.beta1, spec.optimizer.beta2), weight_decay=decay
        )
    )
    count = len(data.targets)
    size = spec.batch_size or count

    def make(steps: int) -> None:
        torch.use_deterministic_algorithms(False)
        done = 0
        while done < steps:
            for chosen in torch.randperm(count, device=device).split(size) if spec.batch_size else [slice(None)]:
                batch = data.take(chosen)
                optimizer.zero_grad()
                experiment.loss(spec, net(batch.inputs), batch).backward()
                optimizer.step()
                done += 1
                if done == steps:
                    break

    return make


if __name__ == "__main__":
    for cells in rows():
        print(" | ".join(cells))
