"""What every command's help ends with: an example of its use, the exit codes, and where failures are explained.

A command without an example here, or with one that its own options do not read, fails the tests of the documentation.
"""

from __future__ import annotations

from typing import Final

import typer

EXITS: Final = (
    "Exit codes: 0 done, 1 a bar or check is not met, 2 wrong use, 65 invalid input, 69 not available, 74 damaged data,"
    " 77 refused, 130 interrupted. See docs/reference/errors.md and cli.md."
)

# By a command's full name, what to type after it. Options that FEDEROME_… variables give are left to them.
EXAMPLES: Final = {
    "algorithm approve": "ann.json bob.json --dir node",
    "algorithm cosign": "root.json --key bob.jwk",
    "algorithm install": "burden.bundle --dir node",
    "algorithm pack": "cohort-count --out cohort-count.bundle",
    "algorithm review": (
        "submission.json --bundle burden.bundle --key ann.jwk --name ann --organisation tartu --out ann.json"
    ),
    "algorithm revoke": "--previous revocations.json --key cem.jwk --out revocations-2.json",
    "algorithm root": "tartu:ann.public.json turku:bob.public.json --key ann.jwk --out root.json",
    "algorithm submit": "burden.bundle --key mia.jwk --author mia --organisation oslo --out submission.json",
    "algorithm trust": "root.json revocations.json --first --dir node",
    "algorithm try": "burden.bundle --people 500",
    "algorithm verify": "--dir node",
    "algorithms": "--json",
    "ask": "cohort-count.question.json --price",
    "authority init": "authority.jwk --name permits.example",
    "authority permit": "permit.json --key authority.jwk --out permit.jwt",
    "authority pin": "new.public.json --dir node",
    "beacon network": "FI=https://fi.example/api ES=https://es.example/api --deadline 5",
    "beacon serve": "--dir node --port 5050",
    "bench": "store --quick",
    "cancer canrisk": "family.toml > family.canrisk",
    "cancer classify": "PVS1 PM2_Supporting",
    "cancer import": 'brca_metabric --dir node --dataset metabric --holder "Example Hospital"',
    "cancer interpret": (
        "louise.vcf.gz --clinvar clinvar.vcf.gz --person p-17 --hospital ward-3 --asked BRCA1,BRCA2 --holder holder"
    ),
    "cancer mcode": 'bundles --dir node --dataset melanomas --holder "Example Hospital"',
    "cancer segregation": "family.toml --by-age 80",
    "cancer tumours": 'our-melanomas --dir node --dataset melanomas --holder "Example Hospital"',
    "definition list": "",
    "definition show": "type-2-diabetes --part case",
    "demo": "--nodes 3 --people 2000",
    "dev-idp": "--dir idp --hub hub",
    "econ budget": "prs-statins --entering 1000,1000 --now none=1 --planned none=0.8,0.5 --planned score=0.2,0.5",
    "econ compare": "brca-cascade NL SE GB",
    "econ cost": "short-read long-read panel --country NL",
    "econ maturity": "finland-2026.toml --radar radar.svg",
    "econ run": "prs-statins --country SE --psa 1000",
    "econ vary": "prs-statins --over share_high=0.1:0.4:4 --over rr_statin=0.6:0.9:4",
    "hub admit": "--dir hub --key authority.jwk",
    "hub certificate": "--dir hub --out next.pem",
    "hub init": "--dir hub --authority authority.public.json",
    "hub invite": "FI --dir hub > FI.invitation",
    "hub notice": "--dir hub --key authority.jwk --suspend FI-2026-0042",
    "hub rotate": "--dir hub",
    "hub serve": "--dir hub",
    "import beacon-bff": "export --dir node --node FI --serve",
    "login": "--session me.session",
    "match accept": "--dir node --person anna --handle 3f9c --address anna@hospital.example",
    "match ask": "patient.json --peers peers.json",
    "match candidates": "--dir node --person anna --case fi-1/p7",
    "match cases": "--dir node --person anna",
    "match decline": "--dir node --person anna --handle 3f9c",
    "match find": "--dir node --person anna --case c7 --datasets FI:fi-1,ES:es-1",
    "match follow": "--dir node --person anna --dataset fi-1",
    "match inbox": "--dir node --person anna",
    "match key": "other-hospital --keys keys.json",
    "match open": "--dir node --ontology ontology",
    "match query": "--corpus cases.jsonl.gz --term HP:0001250 --term HP:0001263 --gene SCN1A",
    "match register": "c7.jsonl --dir node --person anna --dataset fi-1",
    "match run": "--corpus cases.jsonl.gz --queries new.jsonl --out run.tsv",
    "match send": "match.question.json --save answers.json",
    "match serve": "--patients patients.json --keys keys.json",
    "match watch": "--dir node --person anna --case c7 --datasets FI:fi-1,ES:es-1 --days 180",
    "match withdraw": "--dir node --person anna --case c7",
    "node access": "policy.toml --dir node",
    "node approve": "allele-frequency cohort-count --dir node",
    "node certificate": "next.pem --dir node",
    "node citizens": "accounts.csv --dir node",
    "node consent default": "secondary-use --dir node",
    "node consent import": "changes.csv --dir node",
    "node consent opt-in": "people.txt --dir node",
    "node consent opt-out": "people.txt --dir node",
    "node consent override": "example-act-12 public-interest --dir node --until 2027-06-30",
    "node consent reinstate": "people.txt --dir node",
    "node consent show": "--dir node",
    "node consent source": "clinic-app --dataset hospital-fi --dir node",
    "node consent tier": "secondary-use people.txt --dir node",
    "node consent withdraw": "people.txt --dir node",
    "node desk": "--dir node",
    "node discover": "synthetic-fi --dir node --tier registered",
    "node enrol": '"$(cat FI.invitation)" --dir node',
    "node htsget": "--dir node --host 127.0.0.1",
    "node ingest": "batch-2026-11 --dir node --fasta GRCh38.fa",
    "node init": "--dir node",
    "node log": "--dir node --last 50",
    "node pause": '--dir node --reason "moving to another room"',
    "node portal": "--dir node --url https://node.example:8444",
    "node publish": "synthetic-fi --genes BRCA1,BRCA2 --dir node",
    "node refuse": '--dir node --reason "under review until March" --dataset synthetic-fi',
    "node register": "register.json --dir node",
    "node resume": "--dir node --reason moved",
    "node rotate": "--dir node",
    "node serve": "--dir node",
    "node suspend": 'FI-2026-0042 --dir node --reason "its holder reported a breach"',
    "node withdraw": "people.txt --dir node",
    "onboard decommission": "hospital-fi --dir node",
    "onboard fhir": "export hospital",
    "onboard folder": "hospital --dir node --accept-mapping --fix",
    "onboard omop": "export hospital",
    "onboard phenopackets": "export hospital",
    "onboard suggest": "hospital",
    "ontology install": "",
    "patient forget": "--node node --for anna --name c7",
    "patient report": "p.g.vcf.gz --score PGS000018.txt.gz --reference PGS000018.json --home FI --html > report.html",
    "person init": "me.jwk --name researcher-1",
    "pgx call": "cohort.vcf.gz --json > calls.json",
    "pgx cases": "cases.json --json",
    "pgx frequencies": "cohort.vcf.gz > frequencies.tsv",
    "pgx report": "sample.vcf --outside calls.tsv --html > report.html",
    "pgx sites": "> sites.tsv",
    "policy check": "scenarios.toml",
    "policy explain": "scenarios.toml S01",
    "prs evaluate": "scores.tsv --score PGS000018 --people people.tsv --phenotype cad",
    "prs explain": "PGS000001.txt.gz --genotypes person.vcf.gz --variant rs78540526",
    "prs keep": "PGS000018.txt.gz --dir node --dataset synthetic-fi",
    "prs match": "PGS000001.txt.gz --genotypes people.pgen",
    "prs panel": "--genotypes reference.vcf.gz --people reference.tsv --out panel.json",
    "prs reference": "--score PGS000018 --result saved-run --out PGS000018.json",
    "prs report": "PGS000018.txt.gz --genotypes person.vcf.gz --against PGS000018.json --nation FI",
    "prs score": "PGS000001.txt.gz --genotypes people.pgen --out scores.tsv",
    "qc bands": "reference.jsonl.gz --groups groups.csv --out bands.json",
    "qc benchmark": (
        'laboratory.toml --summary happy.summary.csv --pipeline dragen --version 4.3 --truth "HG002 v4.2.1"'
    ),
    "qc compare": "pipeline-1.jsonl.gz pipeline-2.jsonl.gz",
    "qc cosign": "lift.json --key ben.jwk",
    "qc laboratory": "laboratory.toml",
    "qc lift": "lift.json --dir node",
    "qc override": (
        "panel --dir node --sample P7 --check sex --reason Klinefelter --until 2027-06-30 --key a.jwk --out lift.json"
    ),
    "qc run": "panel --dir node --batch batches/2026-06",
    "qc samples": "results.jsonl.gz --groups groups.csv --out report",
    "qc show": "panel --dir node --json",
    "qc signer": "anna.public.json --dir node",
    "receipt verify": "answer --members members.json --authority authority.public.json",
    "review appoint": "anna anna.public.json --institution tartu --dir hub",
    "review approve": "RUN --files DIGEST",
    "review comment": 'RUN --reasons "which table goes into the paper?"',
    "review contest": 'RUN --reasons "every cell holds twenty people"',
    "review fetch": "RUN --save answer",
    "review list": "",
    "review reject": 'RUN --reasons "row 7 tells of one family"',
    "review show": "RUN --table frequencies",
    "risk publish": "--dataset synthetic-fi --dir node --by sex",
    "risk show": "--dir node --sites 1000 --people 5000",
    "run": "cohort-count --price",
    "store compact": "synthetic-fi --dir node",
    "store verify": "--dir node",
}


def finish(group: typer.Typer, path: tuple[str, ...] = ()) -> None:
    """End the help of every command below a group with its example and the exit codes."""
    for command in group.registered_commands:
        name = " ".join((*path, str(command.name)))
        example = f"Example: federome {name} {EXAMPLES[name]}".rstrip() + "\n\n" if name in EXAMPLES else ""
        command.epilog = example + EXITS
    for below in group.registered_groups:
        if below.typer_instance is not None:
            finish(below.typer_instance, (*path, str(below.name)))
