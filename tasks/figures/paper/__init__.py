"""Further figures of the paper: maps of layers, means by size, lines between runs, masks of tickets."""
