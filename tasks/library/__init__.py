"""The functions of the `specdyn` package for programs: analysis in memory, tables, queries, sweeps."""
