"""Everything that is trained: specs, networks, data sets and experiments."""
