"""Replication: runs the studies of a tier one after another by their ordinary commands, then judges claims."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from specdyn.flows.parameters import ConnectParameters, SweepParameters, TicketParameters
from specdyn.flows.studies import study_from
from specdyn.models.spec.run_spec import RunSpec, as_text
from specdyn.storage.places import Store
from specdyn.tasks.evidence.declared import Declared
from specdyn.tasks.plan.gathering import finished_results
from specdyn.tasks.plan.plan import Plan, Study, make_plan
from specdyn.tasks.plan.sweeps import Sweep

KINDS: dict[str, Callable[..., Any]] = {
    "run": SweepParameters,
    "connect": ConnectParameters,
    "tickets": TicketParameters,
}
FLAGS = {
    "weight_decays": "--weight-decays",
    "seeds": "--seeds",
    "axes": "--axis",
    "settings": "--set",
}
"""Options whose name differs from their parameter."""


def spread(declared: Sequence[Declared]) -> list[Declared]:
    """Expand studies that hold the norms of other runs into one call per such run."""
    by_name = {one.name: one for one in declared}
    found = []
    for one in declared:
        if not one.norms_of:
            found.append(one)
            continue
        for spec in _decayed(by_name[one.norms_of]):
            settings = {**one.given.get("settings", {}), "norm_run": spec.run_id}
            found.append(replace(one, given={**one.given, "seeds": [spec.seed], "settings": settings}, norms_of=""))
    return found


def _decayed(declared: Declared) -> list[RunSpec]:
    """The runs of a study with its largest weight decay."""
    sweep = study_of(declared, "results")
    assert isinstance(sweep, Sweep)
    largest = max(spec.decay.weight_decay for spec in sweep.specs)
    return [spec for spec in sweep.specs if spec.decay.weight_decay == largest]


def study_of(declared: Declared, store: str) -> Study:
    """The study of a declaration; writes nothing."""
    name = {"sweep" if declared.command == "run" else "name": declared.name}
    asked = KINDS[declared.command](
        experiment=declared.experiment, preset=declared.preset, store=store, **name, **declared.given
    )
    return study_from(asked)


def planned(declared: Declared, store: Store) -> Plan:
    """The plan of a study: what is done and what is left; times a few steps of its network.

    NotPrepared or ValueError if the store lacks what its runs need.
    """
    return make_plan(study_of(declared, store.url).checked(store, asks=True), store)


def is_done(declared: Declared, store: Store) -> bool:
    """Whether a study is complete; only reads."""
    return finished_results(study_of(declared, store.url), store, report=False) is not None


def arguments(declared: Declared, store: str) -> list[str]:
    """The command-line arguments of `specdyn` for a study."""
    typed = [declared.command, declared.experiment, "--preset", declared.preset, "--store", store]
    typed += ["--sweep" if declared.command == "run" else "--name", declared.name]
    for name, value in declared.given.items():
        flag = FLAGS.get(name, f"--{name.replace('_', '-')}")
        if isinstance(value, dict):
            for setting, of in value.items():
                text = ",".join(map(as_text, of)) if isinstance(of, list) else as_text(of)
                typed += [flag, f"{setting}={text}"]
        else:
            typed += [flag, ",".join(map(as_text, value)) if isinstance(value, list) else as_text(value)]
    return typed


def make(declared: Declared, store: str, executor: str) -> int:
    """Run the command of a study to do what is left; returns its exit status."""
    command = [sys.executable, "-m", "specdyn", *arguments(declared, store), "--executor", executor, "--no-report"]
    return subprocess.run(command, env=os.environ, check=False).returncode
