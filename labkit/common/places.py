"""Where the files that are shipped with the lab lie."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
RESULTS = PACKAGE / "results"  # measured numbers, each with how it was made
WEIGHTS = PACKAGE / "weights"  # trained networks
