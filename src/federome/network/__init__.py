"""Nodes, hub and releaser: authenticate, decide, run, release and record, across countries."""
