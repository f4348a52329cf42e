"""Checkpoints as written by other programs' trainers: the Hugging Face Trainer, and Lightning."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from helpers.hugging_face import CONFIGS

VOCABULARY = 30


def by_hugging_face(folder: Path, kind: str = "LlamaForCausalLM", **arguments: Any) -> Path:
    """A folder written by `transformers.Trainer`: a checkpoint every 10 of 30 updates, losses every 5."""
    import transformers

    settings: dict[str, Any] = {
        "max_steps": 30,
        "save_steps": 10,
        "logging_steps": 5,
        "eval_strategy": "steps",
        "eval_steps": 10,
        "per_device_train_batch_size": 4,
        "report_to": [],
        "use_cpu": True,
        "save_only_model": True,
        "disable_tqdm": True,
        **arguments,
    }
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, VOCABULARY, (32, 8), generator=draw)
    data: Any = [{"input_ids": row, "labels": row} for row in tokens]
    of, config = CONFIGS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen = transformers.TrainingArguments(output_dir=str(folder), **settings)
        transformers.set_seed(chosen.seed)
        net = getattr(transformers, kind)(getattr(transformers, of)(**config))
        trainer = transformers.Trainer(model=net, args=chosen, train_dataset=data, eval_dataset=data[:8])
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return folder


def by_lightning(folder: Path, averaged: bool = False, **settings: Any) -> Path:
    """The folder of checkpoints of a Lightning run: one every 4 of 12 updates, `hparams.yaml` and a log above it.

    With `averaged`, its callback keeps an exponential moving average of the weights.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)
        import pytorch_lightning as lightning
        from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint
        from pytorch_lightning.loggers import CSVLogger

        class Regression(lightning.LightningModule):
            def __init__(self, weight_decay: float = 0.1, seed: int = 0, **others: Any) -> None:
                super().__init__()
                self.save_hyperparameters()
                lightning.seed_everything(seed, verbose=False)
                self.net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

            def training_step(self, batch: list[Tensor], _: int) -> Tensor:
                loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
                self.log("train_loss", loss)
                return loss

            def validation_step(self, batch: list[Tensor], _: int) -> None:
                self.log("val_loss", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return torch.optim.AdamW(self.parameters(), weight_decay=float(self.hparams["weight_decay"]))

        draw = torch.Generator().manual_seed(0)
        examples = [(x, x[:3]) for x in torch.randn(32, 6, generator=draw)]
        loader = torch.utils.data.DataLoader(examples, batch_size=8)  # type: ignore[var-annotated,arg-type]
        logger = CSVLogger(str(folder), name="", version=0)
        keep = ModelCheckpoint(every_n_epochs=1, save_top_k=-1)
        trainer = lightning.Trainer(
            max_epochs=3,
            accelerator="cpu",
            logger=logger,
            callbacks=[keep, *([EMAWeightAveraging(decay=0.5)] if averaged else [])],
            log_every_n_steps=1,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Regression(**settings), loader, loader)
    return Path(logger.log_dir) / "checkpoints"
