"""The commands `specdyn claims` and `replicate`."""
