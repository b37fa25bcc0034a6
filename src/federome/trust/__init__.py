"""Canonical bytes, keys, signatures and receipts: what lets one party believe another."""
