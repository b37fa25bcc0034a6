"""The only door out of a node: what may leave, and in which form."""
