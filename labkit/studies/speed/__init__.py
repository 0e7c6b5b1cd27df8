"""How fast, against the literal form of the released code."""
