"""A grid of runs, each done once: on this machine, on Ray, under Slurm."""
