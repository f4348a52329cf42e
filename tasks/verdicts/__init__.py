"""Verdicts: claims judged on studies, what is stored of them, and how they are shown."""
