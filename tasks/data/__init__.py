"""Data sets fetched, checked and put into the store."""
