"""The Python client for notebooks and scripts."""
