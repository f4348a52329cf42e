"""Decoders: from files to arrays, and from arrays to examples."""
