"""Objects in a folder or bucket: reading, writing, listing, leases and versioned records."""
