"""Which network other programs' tensors are of: its family, its layers and its pairs."""
