"""Data sets, one per module: the module's name is the data set's name, its `DATASETS` lists the variants."""
