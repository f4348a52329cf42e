"""The `specdyn` command whose service marks runs that died before it began after seconds, not after minutes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from specdyn.flows.cli.app import app
from specdyn.flows.service import silent_runs

silent_runs.SILENT_SECONDS = 15.0

if __name__ == "__main__":
    app()
