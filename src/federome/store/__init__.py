"""The genotype and phenotype store of one node: immutable blocks, a catalogue, frozen data releases."""
