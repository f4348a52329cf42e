"""When things happen in a run: memorising, grokking, compression, and what comes first."""
