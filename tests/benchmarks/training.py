"""Training steps a second against the plainest PyTorch loop, which computes every position of the sequence."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.data.modular_addition import rows as table_rows
from models.experiment import get_experiment
from models.nets.transformer import positional_table
from models.run_spec import RunSpec
from tasks.environment import use_threads
from tasks.examples import load_examples
from tasks.training import Batches, make_optimizer, run_steps

STEPS = 200
ROUNDS = 3


class PlainTransformer(nn.Module):
    """The same network from torch's own parts, without our shortcuts."""

    def __init__(self, tokens: int, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.width = width
        self.encoder = nn.Embedding(tokens, width)
        layer = nn.TransformerEncoderLayer(width, heads, feedforward, dropout=0.0, norm_first=True, batch_first=True)
        layer.norm1 = layer.norm2 = nn.Identity()  # type: ignore[assignment]
        self.transformer_encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.decoder = nn.Linear(width, tokens)
        self.register_buffer("pe", positional_table(3, width))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(3))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of all positions."""
        x = self.encoder(tokens) * math.sqrt(self.width) + self.pe
        return self.decoder(self.transformer_encoder(x, mask=self.mask))


def rows() -> list[tuple[str, str, str, str, str]]:
    """Steps a second of the demo's training, and of the paper's full batch."""
    use_threads(1)
    found = []
    for preset in ("demo", "paper"):
        spec = get_experiment("modular_addition").preset(preset).spec
        steps = STEPS if preset == "demo" else STEPS // 10
        ours, plain = our_loop(spec, steps), plain_loop(spec, steps)
        rates = {"plain": 0.0, "ours": 0.0}
        for _ in range(ROUNDS):
            for name, loop in (("plain", plain), ("ours", ours)):
                rates[name] = max(rates[name], steps / seconds(loop))
        how = f"preset {preset}, {steps} steps, 1 thread, best of {ROUNDS}, alternating"
        cells = f"{rates['plain']:.1f}", f"{rates['ours']:.1f}", f"{rates['ours'] / rates['plain']:.2f}x"
        found.append((f"training steps/s ({preset})", *cells, how))
    return found


def seconds(loop: Callable[[], object]) -> float:
    """Wall time of a loop."""
    since = time.perf_counter()
    loop()
    return time.perf_counter() - since


def our_loop(spec: RunSpec, steps: int) -> Callable[[], object]:
    """The pipeline's own loop."""
    experiment = get_experiment(spec.experiment)
    net, data = experiment.net(spec), load_examples(spec, "nowhere")["train"]
    optimizer = make_optimizer(spec, net)
    batches = Batches(spec, data, experiment.steps_per_epoch(spec, len(data.targets)))
    return lambda: run_steps(
        net,
        optimizer,
        batches,
        lambda outputs, batch: experiment.loss(spec, outputs, batch),
        lambda _: spec.learning_rate,
        0,
        steps,
    )


def plain_loop(spec: RunSpec, steps: int) -> Callable[[], object]:
    """Torch's own transformer, optimizer and shuffling, as one would write them first."""
    net = PlainTransformer(spec.data.prime + 1, spec.net.width, spec.net.heads, spec.net.feedforward)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=spec.learning_rate, betas=(spec.beta1, spec.beta2), weight_decay=spec.weight_decay
    )
    table = table_rows(spec.data, spec.seed)[0]
    size = spec.batch_size or len(table)

    def loop() -> None:
        done = 0
        while done < steps:
            for chosen in torch.randperm(len(table)).split(size) if spec.batch_size else [slice(None)]:
                batch = table[chosen]
                loss = F.cross_entropy(net(batch[:, :3])[:, -1], batch[:, 3])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                done += 1
                if done == steps:
                    break

    return loop
