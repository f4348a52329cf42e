"""One update of the weights: which optimizer updates which parameter, what decays, and the surrounding steps."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from specdyn.models import generators
from specdyn.models.spec.parts import Optimizer
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.schedules import weight_decay_at
from specdyn.tasks.training.decay_sums import DecaySums
from specdyn.tasks.training.nuclear import NuclearDecay

Losses = Callable[[], Iterable[Tensor]]
"""Yields the losses of the batches of one update, computed lazily."""
Changes = Mapping[str, tuple[Tensor, Tensor]]
"""The effect of decay on each matrix in an update; see DecaySums."""
Norms = Callable[[int], Iterable[Tensor]]
"""Returns the norms of the matrices after a number of updates."""


def _bare(kind: type[torch.optim.Optimizer]) -> Any:
    """The optimizer without torch's wrappers for its compiler, which takes longer to import than torch itself.

    The wrappers have no other effect, except that they run `step` without gradients.
    """
    names = ("add_param_group", "state_dict", "load_state_dict", "step")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    return type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(methods["step"])})


AdamW, SGD, Muon = map(_bare, (torch.optim.AdamW, torch.optim.SGD, torch.optim.Muon))


def attention_matrices(net: nn.Module) -> set[str]:
    """Names of the matrices in attention blocks: joint query-key-value projections and output projections."""
    blocks = [name for name, module in net.named_modules() if isinstance(module, nn.MultiheadAttention)]
    return {name for name in matrices(net) if any(name.startswith(f"{block}.") for block in blocks)}


def matrices(net: nn.Module) -> dict[str, nn.Parameter]:
    """Trained parameters of two or more dimensions, in registration order."""
    return {name: p for name, p in net.named_parameters() if p.ndim >= 2 and p.requires_grad}


def hidden_matrices(net: nn.Module) -> set[str]:
    """Names of the matrices except embeddings and the last one."""
    embeddings = {f"{name}.weight" for name, module in net.named_modules() if isinstance(module, nn.Embedding)}
    return set(list(matrices(net))[:-1]) - embeddings


def decayed(spec: RunSpec, net: nn.Module) -> set[str]:
    """Names of the parameters that decay; ValueError if `weight_decay_on` selects none in this network."""
    attention = attention_matrices(net)
    names = {
        "all": {name for name, _ in net.named_parameters()},
        "matrices": set(matrices(net)),
        "hidden": hidden_matrices(net),
        "attention": attention,
        "non-attention": set(matrices(net)) - attention,
    }[spec.decay.on]
    if spec.decay.kind == "nuclear":
        names &= set(matrices(net))
    if not names:
        kind = type(net).__name__
        raise ValueError(f"weight_decay_on={spec.decay.on!r} is not allowed: {kind} has no such parameters")
    return names


def make_optimizers(spec: RunSpec, net: nn.Module) -> list[torch.optim.Optimizer]:
    """The spec's optimizer over all parameters; with `muon`, a second one updates all but hidden two-axis matrices."""
    chosen = spec.optimizer
    if chosen.name != "muon":
        groups = _groups(spec, net, {name for name, _ in net.named_parameters()})
        if chosen.name == "adamw":
            return [_adamw(chosen, groups)]
        rate, momentum = chosen.learning_rate, chosen.momentum
        return [SGD(groups, lr=rate, momentum=momentum, nesterov=chosen.nesterov)]
    own = {name for name in hidden_matrices(net) if net.get_parameter(name).ndim == 2}
    if not own:
        raise ValueError(f"optimizer='muon' is not allowed: {type(net).__name__} has no hidden matrices of two axes")
    others = {name for name, _ in net.named_parameters()} - own
    return [
        Muon(
            _groups(spec, net, own),
            lr=chosen.learning_rate,
            momentum=chosen.beta1,
            nesterov=True,
            adjust_lr_fn="match_rms_adamw",  # so that both use the same learning rate
        ),
        _adamw(chosen, _groups(spec, net, others)),
    ]


def _groups(spec: RunSpec, net: nn.Module, chosen: set[str]) -> list[dict[str, Any]]:
    """Chosen parameters in the order of the network, split into decaying and other ones, without empty groups."""
    decay = decayed(spec, net)
    parts = {
        decays: [p for name, p in net.named_parameters() if name in chosen and (name in decay) == decays]
        for decays in (True, False)
    }
    return [{"params": part, "decays": decays} for decays, part in parts.items() if part]


def _adamw(chosen: Optimizer, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    betas = (chosen.beta1, chosen.beta2)
    return AdamW(groups, lr=chosen.learning_rate, betas=betas, eps=chosen.epsilon, fused=True)


class Updater:
    """Makes the updates of a network's weights, and holds the state needed to continue.

    An update consists of: the gradient of one or more batches, clipping its norm, the optimizer's step, shrinking of
    singular values (nuclear decay), and resetting norms (norm control). In float16 losses are scaled, and an update
    whose gradient overflows is skipped. Create it before loading weights, since held norms are those of the weights at
    that time.
    """

    def __init__(self, spec: RunSpec, net: nn.Module) -> None:
        self.optimizers = make_optimizers(spec, net)
        self._spec, self._net = spec, net
        self._parameters = [p for p in net.parameters() if p.requires_grad]
        self.device = self._parameters[0].device
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=spec.numerics.precision == "float16")
        self._held = list(matrices(net).values()) if spec.norms.control == "initial" else []
        norms = _norms(self._held)
        self._norms: Norms = lambda step: norms
        self._dropped: list[tuple[nn.Parameter, Tensor]] = []
        self._shrink = NuclearDecay(net, decayed(spec, net)) if spec.decay.kind == "nuclear" else None
        self._sums = DecaySums(spec, net, decayed(spec, net)) if spec.record.decay else None

    def begin(self, step: int) -> None:
        """Accumulate the effect of decay from this step on, if it is recorded."""
        if self._sums:
            self._sums.begin(step)

    def hold_norms(self, norms: Norms) -> None:
        """Hold the norms of all matrices, in order, at the values for each number of finished updates."""
        self._held, self._norms = list(matrices(self._net).values()), norms

    def hold(self, mask: Mapping[str, Tensor]) -> None:
        """Set masked weights to zero after every update; the mask, by parameter name, is True for kept weights."""
        found = {name: self._net.get_parameter(name) for name in mask}
        self._dropped = [(p, ~mask[name].to(p.device)) for name, p in found.items()]

    def __call__(self, step: int, rate: float, losses: Losses, batches: int = 1) -> Tensor:
        """Make the update after `step` finished ones; returns the mean loss of its batches before the update."""
        decay = weight_decay_at(self._spec, step)
        l2 = 0.0 if self._shrink else decay
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"], group["weight_decay"] = rate, l2 if group["decays"] else 0.0
        chosen = self._spec.optimizer
        loss = self._sharpness_aware(losses, batches) if chosen.name == "sam" else self._add(losses, batches)
        if chosen.clip_norm is not None:
            for optimizer in self.optimizers:
                self._scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self._parameters, chosen.clip_norm)
        changes = self._sums.before(rate, l2) if self._sums else {}
        for optimizer in self.optimizers:
            self._scaler.step(optimizer)
        if self._update_scale():
            self._decay(rate * decay, changes)
        if self._held:
            with torch.no_grad():
                for w, norm, now in zip(self._held, self._norms(step + 1), _norms(self._held), strict=True):
                    w.mul_(torch.where(now > 0, norm / now, 0.0))
        with torch.no_grad():
            for w, dropped in self._dropped:
                w.masked_fill_(dropped, 0.0)
        return loss

    def _update_scale(self) -> bool:
        """Whether the update was made; queries the device only if something depends on it."""
        if not (self._shrink or self._sums):
            self._scaler.update()
            return False
        before = self._scaler.get_scale()
        self._scaler.update()
        return self._scaler.get_scale() >= before  # the scale decreases if the update was skipped

    def _decay(self, amount: float, changes: Changes) -> None:
        """Shrink singular values if nuclear decay is on, and record the effect of decay on the matrices."""
        before = self._sums.weights() if self._sums and self._shrink else {}
        if self._shrink:
            self._shrink(amount)
        if self._sums:
            self._sums.add(changes)
            self._sums.add_since(before)

    def _add(self, losses: Losses, batches: int) -> Tensor:
        """Accumulate the gradient of the mean loss of the batches in the parameters; returns that loss."""
        for p in self._parameters:
            p.grad = None
        total: Tensor | None = None
        for loss in losses():
            share = loss if batches == 1 else loss / batches
            self._scaler.scale(share).backward()
            total = share.detach() if total is None else total + share.detach()
        assert total is not None
        return total

    @torch.no_grad()
    def _sharpness_aware(self, losses: Losses, batches: int) -> Tensor:
        """The gradient at a point one radius up the gradient (Foret et al. 2021), for the same losses and noise."""
        noise = generators.states(self.device)
        with torch.enable_grad():
            loss = self._add(losses, batches)
        moved = [(p, p.grad) for p in self._parameters if p.grad is not None]
        here = [p.clone() for p, _ in moved]
        radius = self._spec.optimizer.sam_radius / (nn.utils.get_total_norm([slope for _, slope in moved]) + 1e-12)
        for p, slope in moved:
            p.add_(slope * radius)
        generators.put_back(noise, self.device)
        with torch.enable_grad(), _statistics_kept(self._net):
            self._add(losses, batches)
        for (p, _), before in zip(moved, here, strict=True):
            p.copy_(before)
        return loss

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State of optimizers and scaler as named tensors and JSON, copied to the CPU."""
        tensors: dict[str, Tensor] = {}
        for start, optimizer in self._numbered():
            for index, values in optimizer.state_dict()["state"].items():
                kept = {key: value for key, value in values.items() if isinstance(value, Tensor)}
                tensors |= {f"{start + index}/{key}": value.detach().cpu().clone() for key, value in kept.items()}
        return tensors, {"optimizer": type(self.optimizers[0]).__name__, "scaler": self._scaler.state_dict()}

    def load(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Restore the result of `state`."""
        for start, optimizer in self._numbered():
            plain = optimizer.state_dict()
            count = sum(len(group["params"]) for group in plain["param_groups"])
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                index, _, key = name.partition("/")
                if start <= int(index) < start + count:
                    state.setdefault(int(index) - start, {})[key] = tensor
            optimizer.load_state_dict({"state": state, "param_groups": plain["param_groups"]})
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(metadata["scaler"])

    def _numbered(self) -> Iterator[tuple[int, torch.optim.Optimizer]]:
        """Each optimizer with the index of its first parameter, counted over all optimizers."""
        start = 0
        for optimizer in self.optimizers:
            yield start, optimizer
            start += sum(len(group["params"]) for group in optimizer.param_groups)


def _norms(weights: list[nn.Parameter]) -> list[Tensor]:
    return [w.detach().norm() for w in weights]


@contextmanager
def _statistics_kept(net: nn.Module) -> Iterator[None]:
    """Make BatchNorm use batch statistics without updating its running ones."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    yield
    for norm in norms:
        norm.track_running_stats = True
