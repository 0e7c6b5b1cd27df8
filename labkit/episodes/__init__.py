"""Few-shot tasks: sampling, augmentation, normalisation."""
