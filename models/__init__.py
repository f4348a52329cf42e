"""What is trained: specs, networks, data and experiments."""
