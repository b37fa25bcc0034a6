"""Questions that a page prepared, as files: read whole and bounded, or refused in the words of who reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from federome.errors import Invalid
from federome.trust.prepared import named_datasets, read_prepared

WRONG = Invalid("this is no question.", where="question.json")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe{}", b'{"a": 1, "a": 2}', b'{"a": "' + b"x" * 90 + b'"}'])
def test_what_is_no_object_or_too_long_is_refused_in_the_readers_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "question.json"
    path.write_bytes(content)
    with pytest.raises(Invalid) as caught:
        read_prepared(path, WRONG, most=64)
    assert caught.value is WRONG


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(Invalid, match="cannot be read") as caught:
            read_prepared(path, WRONG, most=64)
        assert caught.value.where == str(path)


def test_every_node_is_asked_for_some_dataset() -> None:
    assert named_datasets({"FI": ["a", "b"], "ES": ["c"]}, WRONG) == {"FI": ("a", "b"), "ES": ("c",)}
    for listed in ([], "a", ["a", 1], None):
        with pytest.raises(Invalid):
            named_datasets({"FI": listed}, WRONG)  # type: ignore[dict-item]


def test_no_more_is_read_than_may_be(tmp_path: Path) -> None:
    path = tmp_path / "question.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: reading it to its end would take a terabyte
    with pytest.raises(Invalid) as caught:
        read_prepared(path, WRONG, most=1 << 20)
    assert caught.value is WRONG
