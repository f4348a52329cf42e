"""Objects on a folder or a bucket: read, put once, listed, leased, kept as numbered records."""
