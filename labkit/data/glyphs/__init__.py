"""The rendered benchmark: scenes of characters, with the object's mask for every picture."""
