"""Plans studies: what is requested, what the store has, what is missing, and its cost."""
