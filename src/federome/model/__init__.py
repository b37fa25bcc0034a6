"""Frozen dataclasses and pure functions that every other folder speaks in; no I/O, no framework."""
