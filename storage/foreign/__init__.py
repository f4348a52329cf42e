"""Checkpoints that other programs wrote: finding and reading them."""
