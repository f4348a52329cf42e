"""Series that `transformers.Trainer` wrote, from the training to the figures: `python -m tests.benchmarks.hf_series`.

Trains a small Llama and a small Pythia (GPT-NeoX) on the characters of the packaged text, with two weight decays and
two seeds each and 20 checkpoints a run, analyses all of them with one command, and times it. What is in the folder
already is not trained again. With the interpreters of WeightWatcher and Diffract, their numbers for the layers of one
checkpoint are put beside ours.
"""

import argparse
import contextlib
import gzip
import io
import itertools
import json
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

STEPS, CHECKPOINTS, LENGTH, BATCH = 200, 20, 32, 8
DECAYS, SEEDS = (0.0, 2.0), (0, 1)
SIZES = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": LENGTH,
    "tie_word_embeddings": False,
}
KINDS = {"llama": ("LlamaConfig", "LlamaForCausalLM"), "pythia": ("GPTNeoXConfig", "GPTNeoXForCausalLM")}
TEXT = Path(__file__).parents[2] / "models/datasets/samples/devils_dictionary.txt.gz"
NAME = "trainer"
COMPARED = ("alpha", "stable rank", "spectral norm")
OURS = {"alpha": "power_law_alpha", "stable rank": "stable_rank", "spectral norm": "spectral_norm"}


def runs(folder: Path) -> Iterator[tuple[Path, str, float, int]]:
    """The folder, kind, weight decay and seed of every run."""
    for kind, decay, seed in itertools.product(KINDS, DECAYS, SEEDS):
        yield folder / f"{kind}-wd{decay:g}-seed{seed}", kind, decay, seed


def train(folder: Path, kind: str, decay: float, seed: int) -> float:
    """Train one run; the seconds that it took, 0 where it is there already."""
    if (folder / f"checkpoint-{STEPS}").is_dir():
        return 0.0
    import torch
    import transformers

    text = gzip.decompress(TEXT.read_bytes()).decode()
    characters = sorted(set(text))
    tokens = torch.tensor([characters.index(character) for character in text[:200_000]])
    blocks: Any = [
        {"input_ids": row, "labels": row} for row in tokens[: len(tokens) // LENGTH * LENGTH].view(-1, LENGTH)
    ]
    config, net = KINDS[kind]
    transformers.set_seed(seed)
    model = getattr(transformers, net)(getattr(transformers, config)(vocab_size=len(characters), **SIZES))
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        learning_rate=2e-3,
        weight_decay=decay,
        seed=seed,
        per_device_train_batch_size=BATCH,
        save_steps=STEPS // CHECKPOINTS,
        eval_steps=STEPS // CHECKPOINTS,
        logging_steps=5,
        eval_strategy="steps",
        save_only_model=True,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    since = time.monotonic()
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=blocks[16:], eval_dataset=blocks[:16])
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train()
    return time.monotonic() - since


def command(*arguments: str) -> tuple[float, str]:
    """What a call of specdyn prints, and its seconds."""
    since = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "specdyn", *arguments], capture_output=True, text=True, check=False, env=None
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.monotonic() - since, done.stdout + done.stderr


def analyse(folder: Path, store: Path) -> list[tuple[str, float, int]]:
    """The first call, a second one, and one with another label: what it was, seconds, decompositions."""
    places = [str(place) for place, *_ in runs(folder)]
    calls = {
        "first call": ("analyse", *places, "--name", NAME, "--executor", "inline"),
        "the same again": ("analyse", *places, "--name", NAME, "--executor", "inline"),
        "with another label": ("analyse", *places, "--name", NAME, "--executor", "inline", "--label", "text=sample"),
    }
    lines = []
    for what, arguments in calls.items():
        seconds, said = command(*arguments, "--store", str(store))
        made = re.search(r"(\d+) decompositions", said)
        lines.append((what, seconds, int(made[1]) if made else 0))
    return lines


def findings(store: Path) -> list[tuple[str, ...]]:
    """By family and weight decay, means over seeds: the losses at the end, and effective rank / rank of all layers."""
    import specdyn

    tree = specdyn.open(f"{store}/studies/{NAME}/results.zarr")
    ranks = tree["layers"].to_dataset().effective_rank.mean("layer").load()
    losses = tree["metrics"].to_dataset().loss.load()
    lines = []
    for family, decay in itertools.product(sorted(set(ranks.family.values)), DECAYS):
        chosen = (ranks.family == family) & (ranks.weight_decay == decay)
        rank, loss = (of.where(chosen, drop=True).mean("run") for of in (ranks, losses))
        ends = [float(rank.isel(step=at)) for at in (0, -1)] + [
            float(loss.isel(step=-1).sel(split=split)) for split in ("train", "val")
        ]
        lines.append((str(family), f"{decay:g}", *(f"{value:.3f}" for value in ends)))
    return lines


def ours(store: Path, run: str) -> dict[str, dict[str, float]]:
    """What both call the same thing, by layer, at the last checkpoint."""
    import specdyn

    layers = specdyn.open(f"{store}/studies/{NAME}/results.zarr")["layers"].to_dataset()
    last = layers.isel(step=-1, run=layers.series.values.tolist().index(run)).load()
    return {
        name: {what: float(last[variable].sel(layer=name)) for what, variable in OURS.items()}
        for name in last.layer.values.tolist()
        if "model.layers" in name or name.startswith(("model.embed", "lm_head"))
    }


def of_weightwatcher(checkpoint: str) -> dict[str, dict[str, float]]:
    """Run by an interpreter that has WeightWatcher and transformers."""
    import transformers
    import weightwatcher

    warnings.simplefilter("ignore")
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    with contextlib.redirect_stdout(io.StringIO()):
        details = weightwatcher.WeightWatcher(model=model).analyze(min_evals=0, plot=False)
    return {
        f"{row.longname}.weight": {
            "alpha": float(row.alpha),
            "stable rank": float(row.stable_rank),
            "spectral norm": float(row.spectral_norm) ** 0.5,  # it is that of W^T W
        }
        for row in details.itertuples()
    }


def of_diffract(checkpoint: str) -> dict[str, dict[str, float]]:
    """Run by an interpreter that has diffract-core and safetensors."""
    from diffract import Session
    from safetensors.numpy import load_file

    weights = {name: w for name, w in load_file(f"{checkpoint}/model.safetensors").items() if w.ndim == 2}
    with Session(profile="ram") as session:
        session.models.add(weights, model_id="one")
        session.compute.apply("pl_alpha", "stable_rank", "l2_norm")
        found: Any = session.results.export_metrics("pl_alpha", "stable_rank", "l2_norm", export_format="list")
    fields = dict(zip(COMPARED, ("pl_alpha", "stable_rank", "l2_norm"), strict=True))
    return {row["parameter_name"]: {what: float(row[field]) for what, field in fields.items()} for row in found}


def theirs(tool: str, python: str, checkpoint: Path) -> dict[str, dict[str, float]]:
    """The numbers of another tool, from a process of its own interpreter."""
    given = [python, __file__, "--tool", tool, str(checkpoint)]
    done = subprocess.run(given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{tool}: {done.stderr[-2000:]}")
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def side_by_side(folder: Path, store: Path, others: dict[str, str]) -> list[tuple[str, ...]]:
    """Each layer of the last checkpoint of the first run: ours / theirs, for what has the same name."""
    place = next(runs(folder))[0]
    mine = ours(store, place.name)
    checkpoint = place / f"checkpoint-{STEPS}"
    found = {"specdyn": mine} | {tool: theirs(tool, python, checkpoint) for tool, python in others.items()}

    def cell(layer: str, what: str) -> str:
        return " / ".join(f"{of[layer][what]:.3f}" if layer in of else "-" for of in found.values())

    return [(layer, *(cell(layer, what) for what in COMPARED)) for layer in mine]


def markdown(headings: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """A table."""
    rows = [headings, ["---"] * len(headings), *lines]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def main() -> None:
    """Train, analyse and print the tables of docs/series.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only-train", action="store_true")
    parser.add_argument("--weightwatcher", metavar="PYTHON", help="an interpreter that has weightwatcher")
    parser.add_argument("--diffract", metavar="PYTHON", help="an interpreter that has diffract-core")
    given = parser.parse_args()
    seconds = {place.name: train(place, *of) for place, *of in runs(given.folder)}
    print(markdown(("run", "seconds of training"), [(name, f"{s:.0f}") for name, s in seconds.items()]))
    if given.only_train:
        return
    store = given.folder / "store"
    timed = [(what, f"{s:.1f}", made) for what, s, made in analyse(given.folder, store)]
    print(markdown(("call", "seconds", "decompositions"), timed))
    headings = ("family", "weight decay", "rank at the start", "at the end", "train loss", "val loss")
    print(markdown(headings, findings(store)))
    others = {tool: python for tool in ("weightwatcher", "diffract") if (python := getattr(given, tool))}
    if others:
        what = " / ".join(["specdyn", *others])
        print(markdown(("layer", *(f"{name}: {what}" for name in COMPARED)), side_by_side(given.folder, store, others)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--tool"]:
        print(json.dumps({"weightwatcher": of_weightwatcher, "diffract": of_diffract}[sys.argv[2]](sys.argv[3])))
    else:
        main()
