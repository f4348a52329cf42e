"""Series of checkpoints that other programs wrote: audit and analysis."""
