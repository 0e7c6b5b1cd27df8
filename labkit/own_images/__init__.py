"""Your own pictures: support sets, calibrated answers, figures."""
