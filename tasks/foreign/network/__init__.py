"""Recognises the network behind other programs' tensors: its family, layers and pairs."""
