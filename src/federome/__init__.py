"""Federome: federated genomics."""
