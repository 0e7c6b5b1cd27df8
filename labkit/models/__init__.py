"""Every method by name, and trained models as files."""
