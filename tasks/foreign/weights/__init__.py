"""Reconstructs the weights with which a network computes from the tensors in files."""
