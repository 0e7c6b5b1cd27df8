"""Settings, the training loop, several devices, divergence."""
