"""Phases and settings, the training loop and its state, several devices, divergence, heads on one backbone."""
