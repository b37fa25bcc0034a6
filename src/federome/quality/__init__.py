"""Is this genome, and this dataset, good enough? Measures from genotypes and laboratories, verdicts with reasons."""
