"""The fields of a person: names, types, value sets, and which profile wants them. The single source of these rules.

`manifest` checks the batch's constants against it, `phenotypes` every column of the table; the table of fields in
``docs/reference/batch-folder.md`` says the same in words. Numbers after # are rows of the 1+MG minimal dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from federome.errors import Invalid
from federome.model.dataset import Profile

Kind = Literal["text", "integer", "number", "date", "texts", "integers"]
Presence = Literal["mandatory", "optional", "forbidden"]
Place = Literal["table", "constants", "either"]

NULL_FLAVORS = ("NI", "UNK", "NASK", "ASKU", "NAV", "MSK", "OTH")
"""HL7 NullFlavors that a coded field takes instead of a value."""

UNKNOWN_FLAVORS = tuple(flavor for flavor in NULL_FLAVORS if flavor != "OTH")
"""Those that say nothing is known; ``OTH`` says that the value set lacks it."""

MAX_NULL_RATE = 0.2
"""Share of people without a known value above which a dataset is refused (rule V1)."""

MAX_TEXT = 200

_ICD10 = r"[A-Z][0-9][0-9A-Z](\.[0-9A-Z]{1,4})?"
_YEAR = (1850, 2200)


@dataclass(frozen=True, slots=True)
class Column:
    """One field. ``values`` or ``pattern`` (RE2, whole value) restrict texts, ``low``/``high`` numbers.

    ``coded`` fields also take a NullFlavor. ``gaps`` allows a mandatory field to be empty for single persons.
    """

    name: str
    kind: Kind
    place: Place
    reference: Presence
    minimal: Presence
    row: int | None
    values: tuple[str, ...] = ()
    pattern: str = ""
    said: str = ""
    low: float | None = None
    high: float | None = None
    unit: str = ""
    coded: bool = False
    gaps: bool = False

    @property
    def listed(self) -> bool:
        """Whether a person may have several values."""
        return self.kind in ("texts", "integers")

    @property
    def expected(self) -> str:
        """What a right value looks like, in words."""
        if self.values:
            said = "one of " + ", ".join(self.values)
        elif self.low is not None:
            said = f"{self.low:g} to {self.high:g}" + (f" {self.unit}" if self.unit else "")
        else:
            said = self.said or {"date": "a day like 2026-06-01"}.get(self.kind, f"text of at most {MAX_TEXT} letters")
        return said + (" or a NullFlavor (" + ", ".join(NULL_FLAVORS) + ")" if self.coded else "")

    def presence(self, profile: Profile) -> Presence:
        """Whether a profile wants, allows or forbids it."""
        return self.reference if profile == "reference-genotypes" else self.minimal


def _text(
    name: str,
    place: Place,
    minimal: Presence,
    row: int | None,
    *,
    reference: Presence = "forbidden",
    kind: Kind = "text",
    values: tuple[str, ...] = (),
    pattern: str = "",
    said: str = "",
    coded: bool = False,
) -> Column:
    return Column(name, kind, place, reference, minimal, row, values=values, pattern=pattern, said=said, coded=coded)


def _measure(name: str, low: float, high: float, unit: str, *, minimal: Presence = "optional") -> Column:
    return Column(
        name, "number", "table", "forbidden", minimal, 27, low=low, high=high, unit=unit, gaps=minimal == "mandatory"
    )


_COLUMNS = (
    _text(
        "person_id", "table", "mandatory", 1, reference="mandatory", pattern=r"[^\s;,|/\\]{1,64}", said="a pseudonym"
    ),
    _text("sex", "table", "mandatory", 4, reference="mandatory", values=("female", "male")),
    _text("population", "either", "optional", None, reference="mandatory", pattern=r"[^;|]{1,60}", said="a label"),
    Column("birth_year", "integer", "table", "forbidden", "mandatory", 2, low=_YEAR[0], high=_YEAR[1]),
    _text("administrative_gender", "table", "mandatory", 3, values=("male", "female", "other", "unknown"), coded=True),
    _text("country_of_origin", "either", "mandatory", 5, pattern="[A-Z]{2}", said="an ISO 3166-1 code", coded=True),
    _text("ancestry", "either", "optional", 9, pattern="HANCESTRO:[0-9]{4,7}", said="a HANCESTRO code", coded=True),
    _text("case_status", "either", "mandatory", 13, values=("solved", "unsolved", "control")),
    _text("diagnosis_icd10", "table", "mandatory", 10, kind="texts", pattern=_ICD10, said="ICD-10 codes like I25.1"),
    Column("diagnosis_year", "integers", "table", "forbidden", "optional", 11, low=_YEAR[0], high=_YEAR[1]),
    _text("index_diagnosis_icd10", "constants", "optional", 13, pattern=_ICD10, said="an ICD-10 code like I25"),
    _text("hpo_terms", "table", "optional", 12, kind="texts", pattern="HP:[0-9]{7}", said="HPO codes like HP:0001250"),
    _text(
        "medication_atc",
        "table",
        "optional",
        25,
        kind="texts",
        pattern="[A-Z]([0-9]{2}([A-Z]([A-Z]([0-9]{2})?)?)?)?",
        said="ATC codes like C10AA05",
    ),
    _text("smoking", "table", "optional", 28, values=("never", "former", "current"), coded=True),
    _measure("bmi_kg_m2", 10, 100, "kg/m²", minimal="mandatory"),
    _measure("ldl_c_mmol_l", 0.1, 30, "mmol/L"),
    _measure("sbp_mmhg", 30, 300, "mmHg"),
    _measure("dbp_mmhg", 30, 300, "mmHg"),
    _measure("hba1c_mmol_mol", 10, 200, "mmol/mol"),
    _measure("creatinine_umol_l", 5, 2000, "µmol/L"),
    _text("sample_id", "table", "mandatory", 16, pattern=r"[^\s;,|/\\]{1,64}", said="a pseudonym"),
    Column("sample_date", "date", "table", "forbidden", "optional", 16),
    _text(
        "sample_organism",
        "either",
        "mandatory",
        17,
        pattern="NCBITaxon:[0-9]+",
        said="a code like NCBITaxon:9606",
        coded=True,
    ),
    _text(
        "sample_anatomical_location",
        "either",
        "mandatory",
        18,
        pattern=r"UBERON:[0-9]{7}|X[A-Z][0-9A-Z.&/]+",
        said="a UBERON or ICD-11 code",
        coded=True,
    ),
    _text("sample_biospecimen_type", "either", "optional", 20, pattern="[A-Z0-9]{3}", said="a SPREC code", coded=True),
    _text("sequence_target", "either", "mandatory", 33, values=("WGS", "WES", "panel", "array", "other"), coded=True),
    _text(
        "sequence_platform",
        "either",
        "mandatory",
        34,
        pattern=r"[^;|]{2,100}",
        said="a FAIR Genomes or EFO term",
        coded=True,
    ),
    Column("sequence_mean_depth", "integer", "either", "forbidden", "mandatory", 35, low=0, high=10_000, unit="x"),
    _text(
        "sequence_reference_genome",
        "either",
        "mandatory",
        36,
        pattern=r"GC[AF]_[0-9]{9}\.[0-9]+",
        said="an INSDC accession",
    ),
    _text(
        "sequence_input_format",
        "either",
        "mandatory",
        37,
        pattern="EDAM:format_[0-9]{4}",
        said="an EDAM code",
        coded=True,
    ),
    _text(
        "sequence_output_format",
        "either",
        "mandatory",
        37,
        pattern="EDAM:format_[0-9]{4}",
        said="an EDAM code",
        coded=True,
    ),
    _text("consent_form_id", "either", "mandatory", 42, pattern=r"[^;|]{1,100}"),
    _text("consent_form_version", "either", "mandatory", 42, pattern=r"[^;|]{1,40}"),
    _text(
        "consent_tier", "either", "mandatory", 42, values=("none", "allele-frequency", "subject-query", "secondary-use")
    ),
    _text(
        "qc_report_digest",
        "either",
        "mandatory",
        43,
        pattern="sha256:[0-9a-f]{64}",
        said="sha256: and 64 hexadecimal digits",
    ),
    _text("qc_verdict", "either", "mandatory", 43, values=("pass", "warn", "fail")),
)

COLUMNS: Mapping[str, Column] = {column.name: column for column in _COLUMNS}


def check_names(table: Mapping[str, str], constants: Mapping[str, str], profile: Profile) -> None:
    """Raise ``Invalid`` where a field is unknown, forbidden, in the wrong place, given twice or missing.

    Both arguments map field names to where they stand (file, or file and line), for the message.
    """
    for place, names in (("table", table), ("constants", constants)):
        for name, where in names.items():
            column = COLUMNS.get(name)
            if column is None or column.presence(profile) == "forbidden":
                known = "not known" if column is None else f"not allowed in the profile {profile}"
                raise Invalid(
                    f"the field {name[:60]!r} is {known}.",
                    where=where,
                    remedy="Remove it, or use a name from docs/reference/batch-folder.md.",
                )
            if column.place not in (place, "either"):
                belongs = "[constants] of manifest.toml" if column.place == "constants" else "the phenotype table"
                raise Invalid(f"the field {name!r} belongs into {belongs}.", where=where, remedy="Move it there.")
    for name in table.keys() & constants.keys():
        raise Invalid(
            f"the field {name!r} stands in the phenotype table and in [constants].",
            where=constants[name],
            remedy="Keep one of them.",
        )
    for column in COLUMNS.values():
        if column.presence(profile) == "mandatory" and column.name not in table.keys() | constants.keys():
            raise Invalid(
                f"the mandatory field {column.name!r} is missing ({column.expected}).",
                where=f"profile {profile}",
                remedy="Add it as a column of the phenotype table"
                + (" or to [constants] of manifest.toml." if column.place != "table" else "."),
            )
