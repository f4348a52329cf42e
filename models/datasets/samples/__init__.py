"""Small real data that comes with the package; LICENCES.md says where each file is from."""

from pathlib import Path

FOLDER = Path(__file__).parent
