"""What units of work took: measured where they run, kept in the store, read beside what was expected."""
