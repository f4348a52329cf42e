"""What a program calls: one model or series analysed in memory, its table of layers, a sweep in this process."""
