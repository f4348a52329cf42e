"""Claims, one per module; the module's name is the claim's id (CLAIMS 2)."""
