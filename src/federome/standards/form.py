"""Forms as browsers and WES clients send them: ``multipart/form-data`` (RFC 7578), read strictly, within bounds.

A few short text fields are all that our faces take, so the whole form is read at once and anything else is refused.
"""

from __future__ import annotations

import re
from typing import Final

from federome.errors import Invalid

MAX_FIELDS: Final = 50
_REMEDY: Final = "Send multipart/form-data (RFC 7578) with text fields."
# A boundary is 1 to 70 characters of RFC 2046's set, quoted or not.
_TYPE: Final = re.compile(
    r"multipart/form-data\s*;.*?\bboundary="
    r"""(?:"([0-9A-Za-z'()+_,./:=? -]{1,70})"|([0-9A-Za-z'+_.-]{1,70}))(?:[;\s].*)?""",
    re.IGNORECASE,
)
_NAME: Final = re.compile(r"""content-disposition:\s*form-data\s*;(?:.*;)?\s*name=(?:"([^"]*)"|([^\s;"]+))""", re.I)
_FILE: Final = re.compile(r"content-disposition:.*;\s*filename\*?=", re.IGNORECASE)


def read_form(content_type: str, body: bytes) -> dict[str, str]:
    """Field name → text (UTF-8). ``Invalid`` for another media type, a broken form, repeated fields, or a file."""
    found = _TYPE.fullmatch(content_type.strip())
    if found is None:
        raise Invalid("the request is not a form.", remedy=_REMEDY)
    delimiter = b"\r\n--" + (found[1] or found[2]).rstrip().encode("ascii")
    # What stands before the first delimiter and after the last one is no part of the form (RFC 2046 §5.1.1).
    _, *parts = (b"\r\n" + body).split(delimiter, MAX_FIELDS + 2)
    fields: dict[str, str] = {}
    for part in parts:
        if part.startswith(b"--"):
            return fields
        name, text = _field(part)
        if name in fields:
            raise Invalid(f"the field {name[:40]!r} is repeated.", remedy="Send each field once.")
        if len(fields) == MAX_FIELDS:
            raise Invalid(f"a form has at most {MAX_FIELDS} fields.")
        fields[name] = text
    raise Invalid("the form is cut short.", remedy=_REMEDY)


def _field(part: bytes) -> tuple[str, str]:
    head, separator, value = part.partition(b"\r\n\r\n")
    if not separator:
        raise Invalid("a field of the form has no header.", remedy=_REMEDY)
    try:
        lines = head.decode("utf-8").split("\r\n")
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid("a field of the form is not UTF-8 text.", remedy=_REMEDY) from None
    if any(_FILE.match(line) for line in lines):
        raise Invalid("files are not taken.", where="form", remedy="Name a built-in algorithm; attach nothing.")
    names = [match[1] or match[2] for line in lines if (match := _NAME.match(line))]
    if len(names) != 1 or not names[0]:
        raise Invalid("a field of the form has no name.", remedy=_REMEDY)
    return names[0], text
