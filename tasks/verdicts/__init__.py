"""Judges claims on studies, stores the verdicts, and formats them."""
