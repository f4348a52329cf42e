"""Each of the paper's networks by every tool: `python -m tests.benchmarks.networks [NETWORK ...] [--diffract PYTHON]`.

Prints a Markdown table for each network. Every measurement is CPU time on one thread, in a process of its own.
WeightWatcher is measured if this interpreter has it, Diffract by an interpreter of its own, as it needs Python 3.12.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib import util
from pathlib import Path

THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
PRESETS = {
    "modular addition": ("modular_addition", "paper", 10),
    "VGG-16": ("image_classification", "sample", 40),
    "UNet": ("image_generation", "sample", 40),
    "BiLSTM": ("speech_recognition", "sample", 40),
    "12-layer transformer": ("language_modelling", "sample", 40),
}
"""Network -> the experiment and preset whose training is timed, and the steps that are made."""
GPU = "not run: no GPU has been available"


def diffract(weights_file: str) -> dict[str, float]:
    """Diffract's power laws, stable ranks and spectral norms of every matrix; needs neither torch nor specdyn."""
    from diffract import Session
    from safetensors.numpy import load_file

    weights = {name: w.reshape(len(w), -1) for name, w in load_file(weights_file).items()}
    with contextlib.redirect_stdout(io.StringIO()):
        _diffract(Session, {"first": next(iter(weights.values()))[:8, :8].copy()})  # imports
        since = time.process_time()
        count = _diffract(Session, weights)
    return {"seconds": time.process_time() - since, "layers": count}


def _diffract(session_of: Callable[..., object], weights: dict[str, object]) -> int:
    with session_of(profile="ram") as session:  # type: ignore[attr-defined]
        session.models.add(weights, model_id="one")
        session.compute.apply("pl_alpha", "stable_rank", "l2_norm")
        return len(session.results.export_metrics("pl_alpha", "stable_rank", "l2_norm", export_format="list"))


def of_table(name: str) -> dict[str, float]:
    """`specdyn.table` of the network: spectra, stable and effective ranks, power laws, Marchenko-Pastur edges."""
    import torch

    import specdyn as sd
    from tests.reference.networks import build

    net, _ = build(name)
    torch.set_num_threads(1)
    sd.table(torch.nn.Linear(8, 8), progress=False)  # imports
    since = time.process_time()
    rows = sd.table(net, progress=False)
    return {"seconds": time.process_time() - since, "layers": len(rows)}


def of_training(name: str) -> dict[str, float]:
    """Milliseconds of CPU time a step in the plainest PyTorch loop and in ours."""
    from specdyn.storage.places import Store
    from tests.benchmarks import training
    from tests.reference.networks import NETWORKS

    assert name in NETWORKS
    with tempfile.TemporaryDirectory() as folder:
        plain, ours = training.row(*PRESETS[name], Store(folder))[1:3]
    return {"plain": 1000 / float(plain), "ours": 1000 / float(ours)}


def saved(name: str, folder: str) -> str:
    """The matrices of the network in a safetensors file, as Diffract reads them."""
    from safetensors.torch import save_file

    from tests.reference.networks import build, checkpoint

    path = f"{folder}/{name.replace(' ', '-')}.safetensors"
    net, _ = build(name)
    save_file({key: w.contiguous() for key, w in checkpoint(net, 0.0, 0).items()}, path)
    return path


MEASURED = {"table": of_table, "training": of_training, "diffract": diffract}


def measured(way: str, argument: str, python: str = sys.executable) -> dict[str, float]:
    """One measurement in a process of its own; ends the benchmark with that process's error."""
    command = [python, *(["-m", "tests.benchmarks.networks"] if python == sys.executable else [__file__])]
    done = subprocess.run(
        [*command, "--measure", way, argument],
        env={**os.environ, **THREADS},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{way} of {argument}: {done.stderr[-2000:]}")
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def table_of(name: str, diffract_python: str | None) -> list[tuple[str, ...]]:
    """The lines of a network's table: what is computed, by what, CPU time, and how many times ours that is.

    No ratio stands where another tool analyses other layers.
    """
    from specdyn.models.wording import plural
    from tests.benchmarks import spectra

    published, ours = (spectra.in_process(name, way) for way in ("naive", "ours"))
    assert published and ours
    own = measured("table", name)
    watched = spectra.in_process(name, "weightwatcher") if util.find_spec("weightwatcher") else None
    others = {"WeightWatcher": {**watched, "layers": watched["decompositions"]}} if watched else {}
    if diffract_python:
        with tempfile.TemporaryDirectory() as folder:
            others["Diffract"] = measured("diffract", saved(name, folder), diffract_python)
    steps = measured("training", name)

    def line(what: str, tool: str, seconds: float, of_ours: float) -> tuple[str, ...]:
        time_said = f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
        return what, tool, time_said, f"{seconds / of_ours:.1f}" if of_ours not in (0, seconds) else ""

    analyses = "agreement, alignment and pruning of a checkpoint"
    training = f"a training step, preset `{PRESETS[name][1]}`"
    return [
        line(analyses, "published pattern", published["seconds"], ours["seconds"]),
        line(analyses, "specdyn", ours["seconds"], ours["seconds"]),
        *(
            line(
                f"spectra and power laws, {plural(int(of['layers']), 'layer')}",
                tool,
                of["seconds"],
                own["seconds"] if of["layers"] == own["layers"] else 0,
            )
            for tool, of in others.items()
        ),
        line(f"spectra and power laws, {own['layers']:.0f} layers", "specdyn", own["seconds"], own["seconds"]),
        line(training, "plain PyTorch loop", steps["plain"] / 1000, steps["ours"] / 1000),
        line(training, "specdyn", steps["ours"] / 1000, steps["ours"] / 1000),
        ("all of these", "specdyn on a GPU", GPU, ""),
    ]


def main() -> None:
    """Print a table for each network that is named, or for all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(PRESETS))
    parser.add_argument("--diffract", metavar="PYTHON", help="an interpreter that has diffract-core and safetensors")
    given = parser.parse_args()
    if unknown := set(given.networks) - set(PRESETS):
        parser.error(f"no network is called {', '.join(sorted(unknown))}; there are {', '.join(PRESETS)}")
    for name in given.networks or PRESETS:
        print(f"\n**{name}**\n\n| what | by | CPU time | times specdyn's |\n|---|---|---|---|", flush=True)
        for cells in table_of(name, given.diffract):
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        warnings.simplefilter("ignore")
        print(json.dumps(MEASURED[sys.argv[2]](sys.argv[3])))
    else:
        sys.path.insert(0, str(Path(__file__).parents[2]))
        main()
