"""Looking after a store: what is damaged in it, and what belongs to nobody."""
