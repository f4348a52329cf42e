"""The `specdyn` command with one more preset: long enough to be killed in the middle, small enough for a test."""

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from specdyn.flows.cli.app import app
from specdyn.models.experiments.modular_addition import PRESETS
from specdyn.models.spec.settings import with_settings

SMOKE = PRESETS["smoke"]
PRESETS["long"] = dataclasses.replace(  # type: ignore[index]
    SMOKE, spec=with_settings(SMOKE.spec, steps=3000, checkpoint_every=200)
)

if __name__ == "__main__":
    app()
