"""What the notebooks measure and draw, one module or folder each."""
