"""A user's training loop for tests of recording: dropout and shuffling draw from torch's generator."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

SETTINGS = {"weight_decay": 1.0, "seed": 0}


def net(seed: int = 0, width: int = 24) -> nn.Module:
    """A network with a buffer, random numbers in its training mode, and three matrices."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(12, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 8), nn.Linear(8, 4)
    )


class Loop:
    """AdamW on random targets; its state can be saved and restored, like that of a resuming program."""

    def __init__(self, seed: int = 0, model: nn.Module | None = None) -> None:
        self.net = model or net(seed)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=0.01, weight_decay=1.0)
        draw = torch.Generator().manual_seed(1)
        self.inputs, self.targets = torch.randn(64, 12, generator=draw), torch.randn(64, 4, generator=draw)
        self.step = 0

    def update(self) -> Tensor:
        """One update; its loss."""
        chosen = torch.randperm(64)[:32]
        loss = (self.net(self.inputs[chosen]) - self.targets[chosen]).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step += 1
        return loss

    def run(self, until: int, told: Callable[[int, nn.Module, Tensor], object] = lambda *_: None) -> list[float]:
        """The losses of the updates up to a step; `told` is called after each."""
        losses = []
        while self.step < until:
            loss = self.update()
            told(self.step, self.net, loss)
            losses.append(float(loss.detach()))
        return losses

    def save(self, path: Path) -> None:
        """Save everything on which the next updates depend."""
        state = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}
        torch.save({**state, "random": torch.get_rng_state()}, path)

    def load(self, path: Path) -> None:
        """Continue from a saved state."""
        state = torch.load(path, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        torch.set_rng_state(state["random"])


def weights_at(step: int) -> dict[str, Tensor]:
    """The weights of a loop at a step, without any recorder."""
    loop = Loop()
    loop.run(step)
    return {name: tensor.clone() for name, tensor in loop.net.state_dict().items()}
