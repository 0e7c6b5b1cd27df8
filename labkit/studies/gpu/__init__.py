"""The first minutes on a GPU: checks against the CPU, the speed table, and the paper's own training."""
