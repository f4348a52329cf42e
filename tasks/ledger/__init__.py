"""Records the cost of units of work in the store, and compares it with estimates."""
