"""`python -m specdyn` is the `specdyn` command."""

from specdyn.flows.cli.app import app

if __name__ == "__main__":
    app(prog_name="specdyn")
