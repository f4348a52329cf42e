"""The `specdyn` command with one more preset: long enough to be killed in the middle, small enough for a test."""

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from specdyn.flows.cli.app import app
from specdyn.models.experiments.base import Preset
from specdyn.models.experiments.modular_addition import PRESETS
from specdyn.models.spec.settings import with_settings


def long_preset() -> Preset:
    """The preset `smoke` with a few thousand quick steps."""
    smoke = PRESETS["smoke"]
    return dataclasses.replace(smoke, spec=with_settings(smoke.spec, steps=3000, checkpoint_every=200))


if __name__ == "__main__":
    PRESETS["long"] = long_preset()  # type: ignore[index]
    app()
