"""What is measured between runs: lines, ends, curves, matching, tickets."""
