"""The manifest: everything that may stand in it, and a line number for everything that may not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.ingest.batch_folders import MANIFEST, MINIMAL

from federome.errors import Invalid
from federome.ingest.manifest import read_manifest
from federome.model.registry import DataUse, Modifier
from federome.model.release import Policy


def write(folder: Path, text: str) -> Path:
    path = folder / "manifest.toml"
    path.write_text(text)
    return path


def test_reference_genotypes(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, MANIFEST + "\n[origin]\nanything = { at = ['all'] }\n"))
    assert (manifest.id, manifest.profile, manifest.assembly) == ("small", "reference-genotypes", "GRCh38")
    assert manifest.policy == Policy(open_data=True)
    assert manifest.data_use is None
    dataset = manifest.dataset(populations=("FIN",), callable_at="sites")
    assert dataset.title == "A small panel"
    assert dataset.constants == {"country": "FI"}


def test_minimal_dataset_with_data_use(tmp_path: Path) -> None:
    text = MINIMAL.replace(
        'permission = "GRU"', 'permission = "DS"\ndiseases = ["MONDO:0005010"]\nmodifiers = [{ code = "NPU" }]'
    ).replace(
        'access = "open"', 'access = "controlled"\nk_min = 12\nmembership_power = 0.2\nnoise = 3.0\nepsilon = 2.0'
    )
    manifest = read_manifest(write(tmp_path, text))
    assert manifest.policy == Policy(k_min=12, membership_power=0.2, noise=3.0, epsilon=2.0)
    assert manifest.data_use == DataUse("DS", ("MONDO:0005010",), (Modifier("NPU"),))
    dataset = manifest.dataset(populations=(), callable_at="intervals")
    assert dataset.data_use == {"permission": "DS", "diseases": ["MONDO:0005010"], "modifiers": [{"code": "NPU"}]}
    assert dataset.constants["sequence_mean_depth"] == 30
    assert manifest.where("consent_tier").endswith(f":{text[: text.index('consent_tier')].count(chr(10)) + 1}")


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('format = "federome-batch/1"', 'format = "federome-batch/9"', 1, "'format' is missing or wrong"),
        ("reference-genotypes", "everything", 2, "'profile' is missing or wrong"),
        ("GRCh38", "hg38", 3, "'assembly' is missing or wrong"),
        ("synthetic = true", 'synthetic = "no"', 4, "'synthetic' is missing or wrong"),
        ("synthetic = true", "synthetic = true\nsyntetic = false", 5, "'syntetic' is not known here"),
        ('title = "A small panel"', "", 6, "'dataset.title' is missing or wrong"),
        ('id = "small"', 'id = "Small!"', 7, "not usable"),
        ('country = "FI"', 'country = "Finland"', 10, "'dataset.country' is missing or wrong"),
        ('country = "FI"', 'country = "FI"\nowner = "x"', 11, "'owner' is not known here"),
        ('access = "open"', 'access = "free"', 13, "'policy.access' is missing or wrong"),
        ('access = "open"', 'access = "open"\nk_min = 30', 12, "k_min ≤ k_public"),
        ('access = "open"', 'access = "open"\ndigits = 16', 14, "a whole number from 1 to 15"),
        ('access = "open"', 'access = "open"\nphenotype_share = 0.0', 14, "a number above 0.0, up to 1.0"),
        ('access = "open"', 'access = "open"\nk_min = true', 14, "'policy.k_min' is missing or wrong"),
        (
            'access = "open"',
            'access = "open"\nmembership_power = 2.0',
            14,
            "'policy.membership_power' is missing or wrong",
        ),
        ('access = "open"', 'access = "open"\nepsilon = 1.0', 14, "'policy.epsilon' is missing or wrong"),
        ("[policy]", "[data_use]\npermission = 'GRU'\n[policy]", 12, "states no data use"),
    ],
)
def test_refuses_with_the_line(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    path = write(tmp_path, MANIFEST.replace(old, new, 1))
    with pytest.raises(Invalid, match=message) as caught:
        read_manifest(path)
    assert caught.value.where == f"{path}:{line}"
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sequence_mean_depth = 30", 'sequence_mean_depth = "30"', "'constants.sequence_mean_depth'"),
        ("sequence_mean_depth = 30", "sequence_mean_depth = true", "'constants.sequence_mean_depth'"),
        ('qc_verdict = "pass"', 'qc_verdict = "fine"', "'constants.qc_verdict'"),
        ('qc_verdict = "pass"', 'qc_verdict = "pass"\nshoe_size = 43', "'shoe_size' is not known"),
        ('sequence_platform = "Illumina NovaSeq X"', 'sequence_platform = "UNK"', "nothing is known"),
        ("sha256:0000", "sha256:000g", "'constants.qc_report_digest'"),
    ],
)
def test_constants_follow_the_rules_of_their_fields(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = MINIMAL.replace(old, new, 1)
    path = write(tmp_path, text)
    with pytest.raises(Invalid, match=message) as caught:
        read_manifest(path)
    at = text[: text.index(new.splitlines()[-1])].count("\n") + 1
    assert caught.value.where == f"{path}:{at}"


def test_a_null_flavor_stands_for_a_coded_value(tmp_path: Path) -> None:
    text = MINIMAL.replace('sequence_platform = "Illumina NovaSeq X"', 'sequence_platform = "OTH"')
    assert read_manifest(write(tmp_path, text)).constants["sequence_platform"] == "OTH"


def test_refuses_what_is_not_toml(tmp_path: Path) -> None:
    path = write(tmp_path, MANIFEST.replace("[policy]", "[policy"))
    with pytest.raises(Invalid, match="line 12") as caught:
        read_manifest(path)
    assert caught.value.where == str(path)
    path.write_bytes(b"\xef\xbb\xbf" + MANIFEST.encode())
    with pytest.raises(Invalid) as caught:
        read_manifest(path)
    assert "byte order mark" in caught.value.remedy
    path.write_bytes("format = 'é'".encode("latin-1"))
    with pytest.raises(Invalid, match="UTF-8"):
        read_manifest(path)
    path.unlink()
    with pytest.raises(Invalid, match="no manifest"):
        read_manifest(path)
