"""`specdyn claims` and `replicate`."""
