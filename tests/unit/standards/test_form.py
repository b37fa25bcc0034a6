"""Forms: what real clients send is read, whatever is broken is refused by name and never guessed at."""

from __future__ import annotations

import httpx2 as httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federome.errors import Invalid
from federome.standards.form import MAX_FIELDS, read_form

NAME = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
KIND = "multipart/form-data; boundary=edge"


def body(*parts: str) -> bytes:
    return "".join(f"--edge\r\n{part}\r\n" for part in parts).encode() + b"--edge--\r\n"


def field(name: str, value: str) -> str:
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'


@given(st.dictionaries(NAME, st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_what_a_client_library_writes_is_read_back(fields: dict[str, str]) -> None:
    request = httpx.Request("POST", "http://hub", files={name: (None, text) for name, text in fields.items()})
    assert read_form(request.headers["content-type"], request.read()) == fields


def test_spellings_that_the_rfc_allows() -> None:
    written = body(
        "content-type: text/plain; charset=utf-8\r\nCONTENT-DISPOSITION: form-data; x=y; name=a\r\n\r\nä\r\nb"
    )
    for kind in ('Multipart/Form-Data;charset=utf-8;Boundary="edge"', "multipart/form-data; boundary=edge ; q=1", KIND):
        assert read_form(kind, b"preamble\r\n" + written + b"epilogue") == {"a": "ä\r\nb"}


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("application/json", b"{}", "not a form"),
        ("multipart/form-data", b"", "not a form"),
        (KIND, b"", "cut short"),
        (KIND, body(field("a", "1"))[:-6], "cut short"),
        (KIND, body(field("a", "1"), field("a", "2")), "repeated"),
        (KIND, body("a=1"), "no header"),
        (KIND, body("Content-Type: text/plain\r\n\r\n1"), "no name"),
        (KIND, body(field("", "1")), "no name"),
        (KIND, body('Content-Disposition: form-data; filename="x.cwl"; name="a"\r\n\r\n1'), "files"),
        (KIND, body("Content-Disposition: form-data; name=\"a\"; filename*=UTF-8''x\r\n\r\n1"), "files"),
        (KIND, body(field("a", "?")).replace(b"?", b"\xff"), "UTF-8"),
        (KIND, body(*(field(f"a{n}", "") for n in range(MAX_FIELDS + 1))), "at most"),
    ],
)
def test_what_is_broken_is_refused(kind: str, data: bytes, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        read_form(kind, data)


@given(st.text(max_size=80), st.binary(max_size=200))
def test_no_bytes_break_the_reader(kind: str, data: bytes) -> None:
    for content_type in (kind, KIND):
        try:
            read_form(content_type, data)
        except Invalid:
            continue
