"""Federome: approved algorithms travel to national nodes, and only results that are safe to release come back."""

__version__ = "0.1.0"
