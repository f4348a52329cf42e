"""`make bench-gpu`: what a GPU does with kernels, training and a whole run of the paper, as Markdown for docs/."""
