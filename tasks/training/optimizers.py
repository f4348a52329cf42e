"""One update of the weights: who moves which parameter, what decays, and what goes around the optimizer's step."""

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
"""Yields the losses of the batches of one update, each computed when it is asked for."""
Changes = Mapping[str, tuple[Tensor, Tensor]]
"""What decay does to each matrix in an update; see DecaySums."""
Norms = Callable[[int], Iterable[Tensor]]
"""Norms of the matrices after so many updates."""


def _bare(kind: type[torch.optim.Optimizer]) -> Any:
    """The optimizer without what torch wraps its methods in for its compiler, which takes longer to import than torch.

    The wrappers do nothing else, but for `step`, which they run without gradients.
    """
    names = ("add_param_group", "state_dict", "load_state_dict", "step")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    return type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(methods["step"])})


AdamW, SGD, Muon = map(_bare, (torch.optim.AdamW, torch.optim.SGD, torch.optim.Muon))


def attention_matrices(net: nn.Module) -> set[str]:
    """Names of the matrices in attention blocks: the joint projection of queries, keys and values, and the output's."""
    blocks = [name for name, module in net.named_modules() if isinstance(module, nn.MultiheadAttention)]
    return {name for name in matrices(net) if any(name.startswith(f"{block}.") for block in blocks)}


def matrices(net: nn.Module) -> dict[str, nn.Parameter]:
    """Trained parameters of two or more dimensions, in the order of their registration."""
    return {name: p for name, p in net.named_parameters() if p.ndim >= 2 and p.requires_grad}


def hidden_matrices(net: nn.Module) -> set[str]:
    """Names of the matrices but for embeddings and the last one."""
    embeddings = {f"{name}.weight" for name, module in net.named_modules() if isinstance(module, nn.Embedding)}
    return set(list(matrices(net))[:-1]) - embeddings


def decayed(spec: RunSpec, net: nn.Module) -> set[str]:
    """Names of the parameters that decay; ValueError where `weight_decay_on` finds none in this network."""
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
    """The spec's optimizer over all parameters; for `muon` a second one moves what is no hidden matrix of two axes."""
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
            adjust_lr_fn="match_rms_adamw",  # so that one learning rate serves both
        ),
        _adamw(chosen, _groups(spec, net, others)),
    ]


def _groups(spec: RunSpec, net: nn.Module, chosen: set[str]) -> list[dict[str, Any]]:
    """Chosen parameters in the order of the network, those that decay and those that do not, as far as there are."""
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
    """Makes the updates of a network's weights, and holds what must be kept to go on with them.

    An update is: the gradient of one or more batches, its norm bounded, the optimizer's step, singular values shrunk
    where the nuclear norm decays, the norms of the matrices put back where they are controlled. In float16 losses are
    scaled, and an update whose gradient overflows is left out. Made before weights are loaded: the norms that are held
    are those of the weights it is given.
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
        """What decay does is summed from this step on, where it is recorded."""
        if self._sums:
            self._sums.begin(step)

    def hold_norms(self, norms: Norms) -> None:
        """Hold the norms of all matrices, in their order, at what is given for each number of finished updates."""
        self._held, self._norms = list(matrices(self._net).values()), norms

    def hold(self, mask: Mapping[str, Tensor]) -> None:
        """Set the weights that a mask drops to zero after every update; True is kept, by the parameter's name."""
        found = {name: self._net.get_parameter(name) for name in mask}
        self._dropped = [(p, ~mask[name].to(p.device)) for name, p in found.items()]

    def __call__(self, step: int, rate: float, losses: Losses, batches: int = 1) -> Tensor:
        """Make the update that follows `step` finished ones; returns the mean loss of its batches before it."""
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
        """Whether the update was made, where something depends on it; asked of the device only then."""
        if not (self._shrink or self._sums):
            self._scaler.update()
            return False
        before = self._scaler.get_scale()
        self._scaler.update()
        return self._scaler.get_scale() >= before  # it falls where the update was left out

    def _decay(self, amount: float, changes: Changes) -> None:
        """Shrink singular values, where they are to decay, and count what decay has done to the matrices."""
        before = self._sums.weights() if self._sums and self._shrink else {}
        if self._shrink:
            self._shrink(amount)
        if self._sums:
            self._sums.add(changes)
            self._sums.add_since(before)

    def _add(self, losses: Losses, batches: int) -> Tensor:
        """The gradient of the mean loss of the batches, into the parameters; returns that loss."""
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
        """The gradient a radius further up the gradient (Foret et al. 2021), of the same losses with the same noise."""
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
        """State of optimizers and scaler as named tensors and JSON, copied off the device."""
        tensors: dict[str, Tensor] = {}
        for start, optimizer in self._numbered():
            for index, values in optimizer.state_dict()["state"].items():
                kept = {key: value for key, value in values.items() if isinstance(value, Tensor)}
                tensors |= {f"{start + index}/{key}": value.detach().cpu().clone() for key, value in kept.items()}
        return tensors, {"optimizer": type(self.optimizers[0]).__name__, "scaler": self._scaler.state_dict()}

    def load(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Put back what `state` gave."""
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
        """Each optimizer with the number of its first parameter, counted through all of them."""
        start = 0
        for optimizer in self.optimizers:
            yield start, optimizer
            start += sum(len(group["params"]) for group in optimizer.param_groups)


def _norms(weights: list[nn.Parameter]) -> list[Tensor]:
    return [w.detach().norm() for w in weights]


@contextmanager
def _statistics_kept(net: nn.Module) -> Iterator[None]:
    """BatchNorm works on the batch's own statistics as in training, and does not count them among the running ones."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    yield
    for norm in norms:
        norm.track_running_stats = True
