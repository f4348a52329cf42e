"""Families of networks that other programs train, one per module; each declares its tensors as data."""
