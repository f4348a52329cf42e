"""One decomposition per matrix and checkpoint, and what analyses are handed of it."""
