"""The page of a report: one file that shows every stored variable and needs no network."""
