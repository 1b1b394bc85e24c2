"""Drawing chains: one chain from its start or its last recorded draw, or many at once."""
