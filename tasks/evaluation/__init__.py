"""Evaluates loss and metrics of given weights, and describes the computing environment."""
