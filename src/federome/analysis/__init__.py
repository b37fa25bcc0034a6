"""Approved algorithms, one file each, and the contract they keep."""
