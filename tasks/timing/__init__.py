"""Times of events in a run: memorising, grokking, compression, and their order."""
