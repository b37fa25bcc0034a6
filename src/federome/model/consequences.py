"""Consequences of variants by their names in annotations, with their ids in the Sequence Ontology (CC BY 4.0)."""

from __future__ import annotations

from typing import Final

SEQUENCE_ONTOLOGY: Final = {
    "3_prime_UTR_variant": "SO:0001624",
    "5_prime_UTR_variant": "SO:0001623",
    "NMD_transcript_variant": "SO:0001621",
    "TFBS_ablation": "SO:0001895",
    "TFBS_amplification": "SO:0001892",
    "TF_binding_site_variant": "SO:0001782",
    "coding_sequence_variant": "SO:0001580",
    "coding_transcript_variant": "SO:0001968",
    "downstream_gene_variant": "SO:0001632",
    "feature_elongation": "SO:0001907",
    "feature_truncation": "SO:0001906",
    "frameshift_variant": "SO:0001589",
    "incomplete_terminal_codon_variant": "SO:0001626",
    "inframe_deletion": "SO:0001822",
    "inframe_insertion": "SO:0001821",
    "intergenic_variant": "SO:0001628",
    "intron_variant": "SO:0001627",
    "mature_miRNA_variant": "SO:0001620",
    "missense_variant": "SO:0001583",
    "non_coding_transcript_exon_variant": "SO:0001792",
    "non_coding_transcript_variant": "SO:0001619",
    "protein_altering_variant": "SO:0001818",
    "regulatory_region_ablation": "SO:0001894",
    "regulatory_region_amplification": "SO:0001891",
    "regulatory_region_variant": "SO:0001566",
    "splice_acceptor_variant": "SO:0001574",
    "splice_donor_5th_base_variant": "SO:0001787",
    "splice_donor_region_variant": "SO:0002170",
    "splice_donor_variant": "SO:0001575",
    "splice_polypyrimidine_tract_variant": "SO:0002169",
    "splice_region_variant": "SO:0001630",
    "start_lost": "SO:0002012",
    "start_retained_variant": "SO:0002019",
    "stop_gained": "SO:0001587",
    "stop_lost": "SO:0001578",
    "stop_retained_variant": "SO:0001567",
    "synonymous_variant": "SO:0001819",
    "transcript_ablation": "SO:0001893",
    "transcript_amplification": "SO:0001889",
    "upstream_gene_variant": "SO:0001631",
}
"""What annotators write, by VEP's list of consequences (release 116)."""
