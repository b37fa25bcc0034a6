"""Canonical JSON against the published vectors of RFC 8785, and the strict reader against hostile documents."""

from __future__ import annotations

import json
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federome.errors import Invalid
from federome.trust.canonical import (
    _DECODER,
    Json,
    _read_regular,
    _written,
    canonical,
    digest,
    digest_bytes,
    parse,
    parse_object,
)

# RFC 8785 appendix B: IEEE 754 bits and the text ECMAScript writes for them.
NUMBERS = """
0000000000000000 0
8000000000000000 0
0000000000000001 5e-324
8000000000000001 -5e-324
7fefffffffffffff 1.7976931348623157e+308
ffefffffffffffff -1.7976931348623157e+308
4340000000000000 9007199254740992
c340000000000000 -9007199254740992
4430000000000000 295147905179352830000
44b52d02c7e14af5 9.999999999999997e+22
44b52d02c7e14af6 1e+23
44b52d02c7e14af7 1.0000000000000001e+23
444b1ae4d6e2ef4e 999999999999999700000
444b1ae4d6e2ef4f 999999999999999900000
444b1ae4d6e2ef50 1e+21
3eb0c6f7a0b5ed8c 9.999999999999997e-7
3eb0c6f7a0b5ed8d 0.000001
41b3de4355555553 333333333.3333332
41b3de4355555554 333333333.33333325
41b3de4355555555 333333333.3333333
41b3de4355555556 333333333.3333334
41b3de4355555557 333333333.33333343
becbf647612f3696 -0.0000033333333333333333
43143ff3c1cb0959 1424953923781206.2
"""

SAFE_INTEGERS = st.integers(-(2**53 - 1), 2**53 - 1)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | SAFE_INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("line", NUMBERS.split("\n")[1:-1])
def test_numbers_of_rfc_8785(line: str) -> None:
    bits, text = line.split()
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(number).decode() == text
    assert parse(text.encode()) == number


def test_document_of_rfc_8785() -> None:
    # §3.2.2 to §3.2.4: input document and its canonical bytes.
    document = (
        rb'{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],'
        rb'"string": "\u20ac$\u000F\u000aA\u0027\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}'
    )
    expected = bytes.fromhex(
        "7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c226e756d62657273223a5b3333333333333333332e"
        "333333333333332c31652b33302c342e352c302e3030322c31652d32375d2c22737472696e67223a22e282ac245c7530303066"
        "5c6e4127425c225c5c5c5c5c222f227d"
    )
    assert canonical(parse(document)) == expected


def test_keys_sort_by_utf16_units() -> None:
    # RFC 8785 §3.2.3: the emoji (a surrogate pair) comes before U+FB33 although its code point is larger.
    document = {"€": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "ö": 7}
    keys = list(json.loads(canonical(document)))
    assert keys == ["\r", "1", "\u0080", "ö", "€", "\U0001f600", "\ufb33"]


@given(DOCUMENTS)
def test_reading_and_writing_are_inverse(document: Json) -> None:
    data = canonical(document)
    assert parse(data) == document == json.loads(data, parse_int=float)
    assert canonical(parse(data)) == data


@given(st.dictionaries(st.text(), SAFE_INTEGERS), st.randoms())
def test_order_of_keys_is_irrelevant(document: dict[str, int], random: object) -> None:
    pairs = list(document.items())
    random.shuffle(pairs)  # type: ignore[attr-defined]
    assert digest(dict(pairs)) == digest(document)


def test_digest_is_the_sha256_of_the_bytes() -> None:
    # FIPS 180-4 example for "abc".
    assert digest_bytes(b"abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest({"b": 1, "a": (1.0, "x")}) == digest_bytes(b'{"a":[1,"x"],"b":1}')


@pytest.mark.parametrize(
    "document",
    [float("nan"), float("inf"), 2**53, -(2**53), {1: 2}, b"bytes", {"x": {1, 2}}, "\ud800", {"\udc00": 1}],
    ids=repr,
)
def test_what_cannot_be_written(document: object) -> None:
    with pytest.raises(Invalid):
        canonical(document)  # type: ignore[arg-type]


def test_writing_is_bounded() -> None:
    nested: Json = 1
    for _ in range(33):
        nested = [nested]
    with pytest.raises(Invalid, match="levels"):
        canonical(nested)
    with pytest.raises(Invalid, match="bytes"):
        canonical("x" * 100, max_bytes=100)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1,]",
        b"{'a':1}",
        b"01",
        b"NaN",
        b"[-Infinity]",
        b"1e999",
        b"9007199254740993",
        b"1" * 5000,
        b'{"a":1,"a":2}',
        b'{"x":{"a":1,"\\u0061":1}}',
        b'"\\ud800"',
        b'{"\\udc00":1}',
        b'"\xff"',
        b"\xef\xbb\xbf1",
        '"utf-16"'.encode("utf-16"),
        b'"tab\there"',
        b"1 2",
        b"[" * 33 + b"]" * 33,
    ],
    ids=repr,
)
def test_what_cannot_be_read(data: bytes) -> None:
    with pytest.raises(Invalid):
        parse(data)


def test_reading_is_bounded() -> None:
    assert parse(b'"x"', max_bytes=3) == "x"
    with pytest.raises(Invalid, match="4 bytes, more than the 3"):
        parse(b'"xy"', max_bytes=3)


def test_brackets_in_strings_do_not_count_as_depth() -> None:
    text = "[{" * 100 + '"\\'
    assert parse(canonical([text])) == [text]


@pytest.mark.parametrize("hostile", [b'"' + b'\\"' * 400_000, b"[" * 1_000_000, b'{"a":' * 200_000, b'"[' * 500_000])
def test_hostile_documents_are_refused_quickly(hostile: bytes) -> None:
    started = time.process_time()
    with pytest.raises(Invalid):
        parse(b"[" * 33 + hostile)
    with pytest.raises(Invalid):
        parse(hostile)
    assert time.process_time() - started < 2.0


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_invalid(data: bytes) -> None:
    try:
        document = parse(data)
    except Invalid:
        return
    assert parse(canonical(document)) == document


@given(st.text(alphabet='{}[]",:\\0123456789eE.+-truefalsn ud8', max_size=60))
def test_almost_json_is_read_or_invalid(text: str) -> None:
    try:
        document = parse(text.encode())
    except Invalid:
        return
    assert parse(canonical(document)) == document


def test_only_objects_are_objects() -> None:
    assert parse_object(b'{"a":[]}') == {"a": []}
    with pytest.raises(Invalid, match="object"):
        parse_object(b"[]")


PLAIN = st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.text()
PLAIN |= st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.recursive(
        PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    )
)
def test_the_quick_way_writes_what_the_slow_one_writes(document: Json) -> None:
    assert canonical(document).decode() == _written(document)


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(_ANYTHING, st.booleans(), st.booleans())
def test_the_quick_reader_gives_what_the_careful_one_does_or_nothing(
    document: Json, in_order: bool, tight: bool
) -> None:
    separators = (",", ":") if tight else None
    text = json.dumps(document, sort_keys=in_order, ensure_ascii=False, separators=separators)
    quick = _read_regular(text.encode("utf-8", "surrogatepass"))
    if quick is not None:
        assert repr(quick) == repr(_DECODER.decode(text))


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":1}', "9007199254740993", "18446744073709551616", '"\\ud800"', "NaN", "1E400", '{"b":1,"a":2}']
)
def test_the_quick_reader_leaves_faults_and_oddities_to_the_careful_one(text: str) -> None:
    assert _read_regular(text.encode()) is None
