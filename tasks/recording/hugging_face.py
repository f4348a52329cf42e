"""A callback that records trainings of the Hugging Face Trainer."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from specdyn.tasks.recording.recorder import Recorder

LABELS = ("learning_rate", "weight_decay", "seed")
"""Trainer arguments that become settings."""
AT_THE_END = "train_runtime"
"""A key of the final record with means over the whole training."""
NO_METRICS = ("epoch", "_runtime", "_per_second", "total_flos")
"""Suffixes of logged names that are not metrics."""


class HuggingFaceCallback(TrainerCallback):
    """Records under a name with the options of `Recorder`; steps are the Trainer's `global_step`, its updates.

    All logged values are metrics. Learning rate, weight decay and seed become settings. A training that resumes from
    a checkpoint removes what was recorded after that.
    """

    def __init__(self, store: str, name: str, **options: Any) -> None:
        self._arguments, self._options = (store, name), options
        self.recorder: Recorder | None = None
        """The recorder, once training has begun."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the recording, and record the first step."""
        settings = {**{name: getattr(args, name) for name in LABELS}, **(self._options.get("settings") or {})}
        resumed = state.global_step or None
        self.recorder = Recorder(*self._arguments, **{"resume_from": resumed, **self._options, "settings": settings})
        self.recorder.step(state.global_step, kwargs["model"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Announce the step; records the last one immediately, as other weights may be loaded afterwards."""
        if self.recorder:
            last = control.should_training_stop or state.global_step >= state.max_steps
            tell = self.recorder.record if last else self.recorder.step
            tell(state.global_step, kwargs["model"])

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Record the metrics of training and evaluations."""
        if self.recorder and AT_THE_END not in (logs := kwargs["logs"]):
            metrics = {name: value for name, value in logs.items() if not name.endswith(NO_METRICS)}
            self.recorder.log(state.global_step, **metrics)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write what is queued."""
        if self.recorder:
            self.recorder.close()
