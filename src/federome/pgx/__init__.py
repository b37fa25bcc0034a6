"""Pharmacogenomics: from the genotype of one person to named alleles, phenotypes and what they mean for a drug.

A pure engine over frozen tables. Files are read in `ingest`, counts over countries are in `analysis`; both use this.
"""
