"""Repairs a store and removes things from it, based on what its studies need."""
