"""Audits and analyses series of checkpoints from other programs."""
