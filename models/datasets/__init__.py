"""Data sets, one a module; the module's name is the data set's name, its `DATASETS` has one for each variant."""
