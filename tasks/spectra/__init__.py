"""Decomposes each matrix of a checkpoint once, and runs the analyses on the factors."""
