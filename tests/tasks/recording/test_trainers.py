"""The callbacks for the Trainers of Hugging Face and of Lightning, in real trainings."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.hugging_face import CONFIGS
from specdyn.storage.places import Recording, Store
from specdyn.storage.recordings import read_lines, read_recording, read_step, recorded_steps

pytest.importorskip("accelerate")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the trainers themselves
        yield


@pytest.fixture
def place(local_store: Store) -> Recording:
    return local_store.recording("run")


def metrics(place: Recording) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for at in recorded_steps(place.metrics, ".jsonl"):
        for step, line in read_lines(place.lines(at)).items():
            found.setdefault(step, {}).update(line)
    return found


class Weights:
    """The weights after each update, and the losses, as the network itself saw them."""

    def __init__(self) -> None:
        self.at: dict[int, dict[str, Tensor]] = {}

    def note(self, step: int, net: nn.Module) -> None:
        self.at[step] = {name: w.detach().clone() for name, w in net.state_dict().items()}


def hugging_face(folder: Path, *callbacks: Any, resume: str | None = None, **arguments: Any) -> Any:
    """Ten updates of two batches each, with an evaluation and a checkpoint every four."""
    import transformers

    class Own(transformers.Trainer):
        seen = Weights()

        def training_step(self, *given: Any, **named: Any) -> Tensor:
            self.seen.note(self.state.global_step, self.model)
            return super().training_step(*given, **named)

    draw = torch.Generator().manual_seed(0)
    data: Any = [{"input_ids": row, "labels": row} for row in torch.randint(0, 30, (64, 8), generator=draw)]
    of, config = CONFIGS["LlamaForCausalLM"]
    chosen = transformers.TrainingArguments(
        output_dir=str(folder),
        **{
            "max_steps": 10,
            "save_steps": 4,
            "logging_steps": 2,
            "eval_strategy": "steps",
            "eval_steps": 4,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "weight_decay": 0.1,
            "report_to": [],
            "use_cpu": True,
            "disable_tqdm": True,
            **arguments,
        },
    )
    transformers.set_seed(chosen.seed)
    net = transformers.LlamaForCausalLM(getattr(transformers, of)(**config))
    trainer = Own(model=net, args=chosen, train_dataset=data, eval_dataset=data[:4], callbacks=list(callbacks))
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train(resume_from_checkpoint=resume)
    trainer.seen.note(trainer.state.global_step, trainer.model)
    return trainer


def callback(place: Recording, **options: Any) -> Any:
    from specdyn.tasks.recording.hugging_face import HuggingFaceCallback

    return HuggingFaceCallback(str(place.store), place.name, **{"every": 3, **options})


def test_hugging_face_records_updates_and_what_is_logged(place: Recording, tmp_path: Path) -> None:
    recording = callback(place, settings={"width": 16})
    trainer = hugging_face(tmp_path / "out", recording)
    assert recording.recorder.errors == []
    assert recorded_steps(place.folder) == [0, 3, 6, 9, 10]
    for step in (0, 3, 6, 9, 10):
        found = read_step(place.checkpoint(step))
        assert all(torch.equal(w, trainer.seen.at[step][name]) for name, w in found.items())
    told = read_recording(place)
    assert told is not None and told.finished
    assert told.settings == {"learning_rate": 5e-5, "weight_decay": 0.1, "seed": 42, "width": 16}
    logged = {record["step"]: record["loss"] for record in trainer.state.log_history if "loss" in record}
    evaluated = {record["step"]: record["eval_loss"] for record in trainer.state.log_history if "eval_loss" in record}
    found_metrics = metrics(place)
    assert {step: line["loss"] for step, line in found_metrics.items() if "loss" in line} == logged
    assert {step: line["eval_loss"] for step, line in found_metrics.items() if "eval_loss" in line} == evaluated
    assert {name for line in found_metrics.values() for name in line} == {
        "loss",
        "grad_norm",
        "learning_rate",
        "eval_loss",
    }


def test_hugging_face_trains_the_same_with_and_without(place: Recording, tmp_path: Path) -> None:
    bare = hugging_face(tmp_path / "bare")
    recorded = hugging_face(tmp_path / "recorded", callback(place, every=1))
    losses = [[r["loss"] for r in t.state.log_history if "loss" in r] for t in (bare, recorded)]
    assert losses[0] == losses[1]
    weights = recorded.model.state_dict()
    assert all(torch.equal(w, weights[name]) for name, w in bare.model.state_dict().items())


def test_hugging_face_resumes_where_its_checkpoint_is(place: Recording, tmp_path: Path) -> None:
    hugging_face(tmp_path / "out", callback(place))
    before = {step: read_step(place.checkpoint(step)) for step in recorded_steps(place.folder)}
    again = callback(place)
    hugging_face(tmp_path / "out", again, resume=str(tmp_path / "out/checkpoint-4"), max_steps=12)
    assert again.recorder.errors == []
    assert list(before) == [0, 3, 6, 9, 10]
    assert recorded_steps(place.folder) == [0, 3, 6, 9, 12]
    assert all(torch.equal(w, read_step(place.checkpoint(3))[name]) for name, w in before[3].items())


def test_hugging_face_keeps_the_last_step_where_the_best_weights_are_loaded(place: Recording, tmp_path: Path) -> None:
    recording = callback(place)
    trainer = hugging_face(
        tmp_path / "out",
        recording,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,
    )
    assert recording.recorder.errors == [] and recorded_steps(place.folder)[-1] == 10
    best = trainer.model.state_dict()
    last = read_step(place.checkpoint(10))
    assert not all(torch.equal(w, best[name]) for name, w in last.items())


def lightning(folder: Path, *callbacks: Any, resume: str | None = None, **settings: Any) -> Any:
    """Twelve updates of two batches each in three epochs, with an evaluation in the middle of each."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import pytorch_lightning

    class Regression(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            pytorch_lightning.seed_everything(0, verbose=False)
            self.net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.1), nn.ReLU(), nn.Linear(8, 3))
            self.seen, self.losses = Weights(), []

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            self.seen.note(self.trainer.global_step, self)
            loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
            self.losses.append(float(loss.detach()))
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: list[Tensor], _: int) -> None:
            self.log("val_loss", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), weight_decay=0.1, lr=0.01)

        def on_train_epoch_end(self) -> None:
            self.seen.note(self.trainer.global_step, self)

    draw = torch.Generator().manual_seed(0)
    examples = [(x, x[:3]) for x in torch.randn(64, 6, generator=draw)]
    loader = torch.utils.data.DataLoader(examples, batch_size=8)  # type: ignore[var-annotated,arg-type]
    module = Regression()
    trainer = pytorch_lightning.Trainer(
        **{
            "max_epochs": 3,
            "accelerator": "cpu",
            "accumulate_grad_batches": 2,
            "val_check_interval": 4,
            "callbacks": list(callbacks),
            "default_root_dir": str(folder),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": False,
            **settings,
        }
    )
    trainer.fit(module, loader, loader, ckpt_path=resume)
    return module


def of_lightning(place: Recording, **options: Any) -> Any:
    from specdyn.tasks.recording.lightning import LightningCallback

    return LightningCallback(str(place.store), place.name, **{"every": 5, **options})


def test_lightning_records_updates_and_what_is_logged(place: Recording, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_lightning")
    recording = of_lightning(place, settings={"weight_decay": 0.1})
    module = lightning(tmp_path, recording)
    assert recording.recorder.errors == []
    assert recorded_steps(place.folder) == [0, 5, 10, 12]
    for step in (0, 5, 10, 12):
        found = read_step(place.checkpoint(step))
        assert list(found) == list(module.state_dict())
        assert all(torch.equal(w, module.seen.at[step][name]) for name, w in found.items())
    found_metrics = metrics(place)
    assert {step: line["train_loss"] for step, line in found_metrics.items() if "train_loss" in line} == {
        step: pytest.approx(module.losses[2 * step - 1]) for step in (5, 10, 12)
    }
    assert [step for step, line in found_metrics.items() if "val_loss" in line] == [2, 4, 6, 8, 10, 12]


def test_lightning_trains_the_same_with_and_without(place: Recording, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_lightning")
    bare, recorded = lightning(tmp_path), lightning(tmp_path, of_lightning(place, every=1))
    assert bare.losses == recorded.losses
    assert recorded_steps(place.folder) == list(range(13))


def test_lightning_never_records_running_means(place: Recording, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_lightning")
    from pytorch_lightning.callbacks import EMAWeightAveraging

    recording = of_lightning(place, every=1)
    module = lightning(tmp_path, EMAWeightAveraging(decay=0.5), recording)
    assert recording.recorder.errors == [] and recorded_steps(place.folder) == list(range(13))
    for step in range(12):
        found = read_step(place.checkpoint(step))
        assert all(torch.equal(w, module.seen.at[step][name]) for name, w in found.items()), step


def test_lightning_resumes_where_its_checkpoint_is(place: Recording, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_lightning")
    from pytorch_lightning.callbacks import ModelCheckpoint

    keep = ModelCheckpoint(dirpath=str(tmp_path), every_n_train_steps=6, save_top_k=-1, filename="{step}")
    lightning(tmp_path, keep, of_lightning(place))
    again = of_lightning(place, every=4)
    lightning(tmp_path, again, resume=str(tmp_path / "step=6.ckpt"))
    assert again.recorder.errors == []
    assert recorded_steps(place.folder) == [0, 5, 8, 12]
