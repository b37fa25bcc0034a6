"""A synthetic national cohort as its biobank would hand it over: what ``federome onboard`` takes from any provider.

    provider.toml    whose data, on which ground, for which use
    people.parquet   one row a person, in the fields of the profile
    consent.csv      everybody consented to secondary use: the demonstration counts the people it made
    genotypes.pgen   with .pvar and .psam, genes.bed, callable.bed: the files of the synthetic batch

No sample is described as sequenced by a laboratory, since nobody was: quality control says that it knows of none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import duckdb

from federome.demo import folder, synthetic
from federome.demo.hospital import GROUNDS

_ALONG: Final = ("genotypes.pgen", "genotypes.pvar", "genotypes.psam", "genes.bed", "callable.bed")
_FORM: Final = ("consent_form_id", "consent_form_version")
_PROVIDER: Final = """\
format = "federome-provider/1"

[dataset]
id = "synthetic-{code}"
title = "Synthetic national cohort of {country}"
description = "People who do not exist, drawn from a national cohort's frequencies, kinship and health."
country = "{upper}"
assembly = "GRCh38"
synthetic = true
identifier = "GDI-{upper}-SYNTH-001"
keywords = ["synthetic", "coronary artery disease", "cholesterol"]

[provider]
name = "Synthetic Biobank of {country}"
institute = "SYNTH"
contact = "Data office"
email = "data@biobank.example"
protection_officer = "Data protection office"
protection_email = "privacy@biobank.example"

"""


def hand_over(batch: Path, out: Path, country: str) -> Path:
    """Write the new folder ``out`` from a synthetic batch folder, whose files it points to; returns ``out``."""
    with folder.new_folder(out) as place:
        for name in _ALONG:
            (place / name).symlink_to((batch / name).resolve())
        with duckdb.connect() as connection:
            table = connection.read_parquet(str(batch / "phenotypes.parquet"))
            people = [str(name) for (name,) in table.project("person_id").fetchall()]
            # Who consented to what stands in consent.csv, as a provider has it, and comes into the table from there.
            table.project("* EXCLUDE (consent_tier, population)").write_parquet(str(place / "people.parquet"))
        form, version = (str(synthetic.CONSTANTS[name]) for name in _FORM)
        lines = "".join(f"{name},{form},{version},secondary-use,GRU,2020-11-02\n" for name in people)
        header = "person_id,form_id,form_version,tier,duo,signed\n"
        (place / "consent.csv").write_text(header + lines, encoding="ascii")
        said = (_PROVIDER + GROUNDS).format(code=country.lower(), upper=country, country=synthetic.COUNTRIES[country])
        alike = synthetic.CONSTANTS | {"population": country}
        same = (f"{k} = {json.dumps(v)}\n" for k, v in alike.items() if k not in _FORM)
        (place / "provider.toml").write_text(f"{said}\n[constants]\n{''.join(same)}", encoding="utf-8")
    return out
