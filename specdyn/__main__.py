"""`python -m specdyn` is the `specdyn` command."""

from specdyn.flows.cli.app import app

app(prog_name="specdyn")
