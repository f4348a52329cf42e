"""The `specdyn` command: options, tables, and what each subcommand calls."""
