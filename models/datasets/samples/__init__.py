"""Small real data that ships with the package; LICENCES.md lists the source of each file."""

from pathlib import Path

FOLDER = Path(__file__).parent
