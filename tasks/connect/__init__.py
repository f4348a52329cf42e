"""Measures relations between runs: lines, ends, curves, matching, tickets."""
