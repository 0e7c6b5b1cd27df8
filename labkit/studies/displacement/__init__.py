"""The limit of section 5.4: an object in very different parts of support and query (notebook 11)."""
