"""Looking after a store where it takes knowing what studies need: what belongs to each, repair, removal."""
