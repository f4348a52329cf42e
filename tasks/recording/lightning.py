"""A callback that records trainings of the Lightning Trainer."""

from __future__ import annotations

import importlib.util
import re
import sys
from typing import TYPE_CHECKING, Any

from specdyn.tasks.recording.recorder import Recorder

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer
else:
    # The package has two names; use the one that the program has imported.
    PACKAGE = "lightning.pytorch" if "lightning.pytorch" in sys.modules else "pytorch_lightning"
    if PACKAGE not in sys.modules and importlib.util.find_spec(PACKAGE) is None:
        PACKAGE = "lightning.pytorch"
    Callback = importlib.import_module(PACKAGE).Callback

OF_EVALUATIONS = re.compile(r"(?i)^(val|valid|validation|eval|dev|test)(?![a-z])")
"""Prefixes of metrics logged by evaluations."""


class LightningCallback(Callback):
    """Records under a name with the options of `Recorder`; steps are the Trainer's `global_step`, its updates.

    All values that the module logs are metrics; a recorded step has the latest ones. Weights are never read during
    validation, when other callbacks may have replaced them by running means. A training that resumes from a checkpoint
    removes what was recorded after it.
    """

    def __init__(self, store: str, name: str, **options: Any) -> None:
        self._arguments, self._options = (store, name), options
        self.recorder: Recorder | None = None
        """The recorder, once training has begun."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the recording, and record the first step."""
        self.recorder = Recorder(*self._arguments, **{"resume_from": trainer.global_step or None, **self._options})
        self.recorder.step(trainer.global_step, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Announce the step if the batch ended one; records the last immediately, as weights may be replaced later."""
        if self.recorder:
            step, last = trainer.global_step, _ends(trainer)
            wanted = last or self.recorder.due(step)
            tell = self.recorder.record if last else self.recorder.step
            tell(step, pl_module, **(_logged(trainer, of_evaluations=False) if wanted else {}))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the metrics of an evaluation."""
        if self.recorder and not trainer.sanity_checking:
            self.recorder.log(trainer.global_step, **_logged(trainer, of_evaluations=True))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what is queued."""
        if self.recorder:
            self.recorder.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write what is queued, marking the training as unfinished."""
        if self.recorder:
            self.recorder.close(finished=False)


def _ends(trainer: Trainer) -> bool:
    """Whether this batch is the last one, as far as known."""
    epochs = trainer.max_epochs if trainer.max_epochs is not None else -1
    last_epoch = 0 <= epochs <= trainer.current_epoch + 1
    return (
        trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step or (trainer.is_last_batch and last_epoch)
    )


def _logged(trainer: Trainer, of_evaluations: bool) -> dict[str, Any]:
    """The latest values; for metrics that Lightning also logs with `_step` and `_epoch`, only the plain names."""
    return {
        name: value
        for name, value in trainer.callback_metrics.items()
        if bool(OF_EVALUATIONS.match(name)) == of_evaluations and not name.endswith(("_step", "_epoch"))
    }
