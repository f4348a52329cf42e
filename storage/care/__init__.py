"""Finds damage in a store."""
