"""A report for one patient, made at the patient's own node from drug genes and polygenic scores. Nobody abroad asks."""
