"""Architectures as data: a module for each family of networks that other programs train, found by its file name."""
