"""Recording what the Trainer of Lightning trains."""

from __future__ import annotations

import importlib.util
import re
import sys
from typing import TYPE_CHECKING, Any

from specdyn.tasks.recording.recorder import Recorder

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer
else:
    # The package has two names; a program that has both uses the one that it imported.
    PACKAGE = "lightning.pytorch" if "lightning.pytorch" in sys.modules else "pytorch_lightning"
    if PACKAGE not in sys.modules and importlib.util.find_spec(PACKAGE) is None:
        PACKAGE = "lightning.pytorch"
    Callback = importlib.import_module(PACKAGE).Callback

OF_EVALUATIONS = re.compile(r"(?i)^(val|valid|validation|eval|dev|test)(?![a-z])")
"""How names of metrics begin that evaluations log."""


class LightningCallback(Callback):
    """Records under a name with the options of `Recorder`; steps are the Trainer's `global_step`, its updates.

    Metrics are all that the module logs: a recorded step has the latest values. Weights are never looked at in
    validation, when other callbacks may have put running means in their place. A training that resumes from a
    checkpoint removes what was recorded after that.
    """

    def __init__(self, store: str, name: str, **options: Any) -> None:
        self._arguments, self._options = (store, name), options
        self.recorder: Recorder | None = None
        """Once training has begun."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the recording, and record where training begins."""
        self.recorder = Recorder(*self._arguments, **{"resume_from": trainer.global_step or None, **self._options})
        self.recorder.step(trainer.global_step, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell the step if the batch ended one; the last one is recorded now, as weights may be replaced afterwards."""
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
        """Write what is queued, of a training that did not finish."""
        if self.recorder:
            self.recorder.close(finished=False)


def _ends(trainer: Trainer) -> bool:
    """Whether this batch is the last one, as far as it is known."""
    epochs = trainer.max_epochs if trainer.max_epochs is not None else -1
    last_epoch = 0 <= epochs <= trainer.current_epoch + 1
    return (
        trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step or (trainer.is_last_batch and last_epoch)
    )


def _logged(trainer: Trainer, of_evaluations: bool) -> dict[str, Any]:
    """The latest values; of names that Lightning adds `_step` and `_epoch` to the plain ones."""
    return {
        name: value
        for name, value in trainer.callback_metrics.items()
        if bool(OF_EVALUATIONS.match(name)) == of_evaluations and not name.endswith(("_step", "_epoch"))
    }
