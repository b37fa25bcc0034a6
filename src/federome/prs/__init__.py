"""Polygenic scores: scoring files, matching, scoring, ancestry, references and what one person is told of them."""
