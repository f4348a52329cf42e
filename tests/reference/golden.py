"""Golden checkpoints of two networks, and what the paper's own analysis code measured on them."""

import dataclasses
import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from reference.convnets import GoldenConvNet
from specdyn.models.datasets.decoders.examples import Examples
from specdyn.models.datasets.decoders.modular_addition import ModularAddition
from specdyn.models.experiments.base import Experiment, Metric, get_experiment
from specdyn.models.nets.matrices import LayerPair, consecutive_pairs, inventory, layers, shapes_of
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.settings import with_settings
from specdyn.tasks.evaluation.evaluator import Evaluator
from specdyn.tasks.spectra.decomposition import Factors
from specdyn.tasks.spectra.network_layout import NetworkLayout, network_layout
from specdyn.tasks.spectra.one_pass import decompose_step

SPLITS = ("train", "val")


def _error(outputs: Tensor, batch: Examples) -> Tensor:
    return (outputs.argmax(-1) != batch.targets).float().mean()


@dataclass(frozen=True)
class Golden:
    """One folder: checkpoints, data, and the reference's numbers. Also a series of checkpoints."""

    name: str

    @property
    def folder(self) -> Path:
        return Path(__file__).parents[1] / "fixtures/golden" / self.name

    @functools.cached_property
    def meta(self) -> dict[str, list[int] | list[str] | int]:
        return json.loads((self.folder / "meta.json").read_text())

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.folder / "expected.npz"))

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(int(step) for step in self.arrays["step"])

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self.meta["matrix_order"])  # type: ignore[union-attr]

    def expected(self, key: str, step: int) -> np.ndarray:
        """The golden array of a key at a step."""
        return self.arrays[key][self.steps.index(step)]

    @functools.cache  # noqa: B019 - two instances, for the whole test run
    def weights(self, step: int) -> dict[str, Tensor]:
        """The checkpoint of a step."""
        return load_file(self.folder / f"step={step:08d}.safetensors")

    @functools.cache  # noqa: B019
    def data(self) -> dict[str, Examples]:
        """What the golden numbers were measured on."""
        tensors = load_file(self.folder / "data.safetensors")
        if self.name == "convnet":
            return {split: Examples(tensors[f"{split}_x"], tensors[f"{split}_y"]) for split in SPLITS}
        return {split: Examples(tensors[split][:, :3].contiguous(), tensors[split][:, 3]) for split in SPLITS}

    def spec(self, eval_batch_size: int = 64) -> RunSpec:
        """The spec of the golden run, as far as it decides network, data and evaluation."""
        paper = get_experiment("modular_addition").preset("paper").spec
        data = ModularAddition(prime=13, train_fraction=0.6)
        return with_settings(dataclasses.replace(paper, data=data), eval_batch_size=eval_batch_size)

    @property
    def experiment(self) -> Experiment:
        """The experiment; for the ConvNet, which is none of ours, only what evaluation asks of one."""
        ours = get_experiment("modular_addition")
        if self.name != "convnet":
            return ours
        metrics = {
            "loss": Metric(of=lambda outputs, batch: F.cross_entropy(outputs, batch.targets), long_name="loss"),
            "err": Metric(of=_error, long_name="error rate"),
        }
        return dataclasses.replace(
            ours, name="golden", build_net=lambda spec: GoldenConvNet(), metrics=lambda spec: metrics
        )

    @functools.cached_property
    def body(self) -> NetworkLayout:
        """Layers and pairs."""
        if self.name != "convnet":
            return network_layout(self.spec())
        net = GoldenConvNet()
        return NetworkLayout(entries=inventory(net), pairs=consecutive_pairs(layers(net), shapes_of(net)))

    @functools.cache  # noqa: B019
    def factors(self, step: int) -> dict[str, Factors]:
        """Factors of every matrix at a step, each made once."""
        return dict(decompose_step(self, self.body, step)[1])

    def absent(self, step: int, layout: NetworkLayout) -> frozenset[str]:
        """None: all checkpoints have the same parameters."""
        return frozenset()

    def evaluator(self) -> "Golden":
        """Itself: see `__call__`."""
        return self

    def __call__(self, weights: dict[str, Tensor], renormalise: bool = False) -> dict[str, np.ndarray]:
        """Metrics over (train, val), in the golden batches; BatchNorm is estimated on those of train."""
        measured: dict[str, list[float]] = {}
        for i, split in enumerate(SPLITS):
            sizes = self.meta[f"{split}_batches"]
            data = {"train": self.data()["train"], "val": self.data()[split]}
            spec = self.spec(eval_batch_size=sizes[0])  # type: ignore[index]
            assert [len(batch.targets) for batch in data["val"].batches(sizes[0])] == sizes  # type: ignore[index]
            if self.name == "convnet":  # one batch of val either way, and BatchNorm needs those of train
                spec = self.spec(eval_batch_size=self.meta["train_batches"][0])  # type: ignore[index]
            net: nn.Module = self.experiment.net(spec)
            found = Evaluator(self.experiment, spec, net, data, torch.device("cpu"))(weights, renormalise)
            for name, values in found.items():
                measured.setdefault(name, []).append(float(values[i]))
        return {name: np.array(values, dtype=np.float32) for name, values in measured.items()}

    def alignment_key(self, pair: LayerPair) -> str:
        """The reference's name of a pair: whole layers, `_qk` for queries with keys."""
        writer, reader = pair.writer.parameter, pair.reader.parameter
        return f"{writer}_{reader}_{'qk_' if writer == reader else ''}align"


NAMES = ("modular_addition", "convnet")
GOLDEN = {name: Golden(name) for name in NAMES}


def separated(s: np.ndarray) -> np.ndarray:
    """Where a singular value differs by more than 1e-3 of itself from both neighbours."""
    gap = np.diff(s, axis=-1, prepend=np.inf, append=0.0)
    return np.minimum(-gap[..., :-1], -gap[..., 1:]) > 1e-3 * s
