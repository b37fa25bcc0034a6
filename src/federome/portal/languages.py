"""Languages of the pages: gettext catalogues (``locale/*.po``), read as they are, and which of them a visitor gets.

A translation that a machine made stands there as ``#, fuzzy`` until a person has read it; it is shown, and the page
says so. Texts are found in templates and in ``N_(...)`` of the code; ``python -m federome.portal.languages`` brings the
catalogues up to date.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
LOCALE: Final = HERE / "locale"
LANGUAGES: Final[Mapping[str, str]] = {
    "en": "English",
    "fr": "Français",
    "de": "Deutsch",
    "es": "Español",
    "fi": "Suomi",
    "et": "Eesti",
}
_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED: Final = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}


def N_(text: str) -> str:  # noqa: N802 (the name that gettext's readers know)
    """Marks a text of the code for translation; templates translate it with ``_``."""
    return text


MONTHS: Final = (
    N_("January"), N_("February"), N_("March"), N_("April"), N_("May"), N_("June"), N_("July"), N_("August"),
    N_("September"), N_("October"), N_("November"), N_("December"),
)  # fmt: skip
DAY: Final = N_("%(day)s %(month)s %(year)s")


@dataclass(frozen=True)
class Entry:
    """One text of a catalogue: its forms (one, or one for each plural), and whether a person must still read them."""

    forms: tuple[str, ...]
    plural: str = ""
    fuzzy: bool = False


@dataclass(frozen=True)
class Language:
    """A language of the pages. Texts without a translation stay English."""

    code: str
    entries: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What its speakers call it."""
        return LANGUAGES[self.code]

    @property
    def machine_made(self) -> bool:
        """Whether a person must still read some of its texts."""
        return any(entry.fuzzy for entry in self.entries.values())

    def gettext(self, text: str) -> str:
        """A text in this language."""
        entry = self.entries.get(text)
        return entry.forms[0] if entry and entry.forms[0] else text

    def ngettext(self, one: str, many: str, count: int) -> str:
        """A text that depends on a count."""
        entry = self.entries.get(one)
        single = count <= 1 if self.code == "fr" else count == 1
        if entry is None or len(entry.forms) < 2 or not all(entry.forms):
            return one if count == 1 else many
        return entry.forms[0 if single else 1]

    def day(self, day: date | datetime) -> str:
        """A day in words."""
        month = self.gettext(MONTHS[day.month - 1])
        return self.gettext(DAY) % {"day": day.day, "month": month, "year": day.year}


@cache
def language(code: str) -> Language:
    """A language by its code; English for one that is not known."""
    path = LOCALE / f"{code}.po"
    if code not in LANGUAGES or not path.is_file():
        return Language("en")
    return Language(code, parse(path.read_text(encoding="utf-8")))


def chosen(asked: str, cookie: str, accepted: str) -> str:
    """The language of a visitor: what the address asks, else what was chosen before, else what the browser prefers."""
    for code in (asked, cookie):
        if code in LANGUAGES:
            return code
    weighed = []
    for at, part in enumerate(accepted[:200].split(",")):
        code, _, quality = part.strip().partition(";q=")
        try:
            weighed.append((-float(quality or 1), at, code.partition("-")[0].lower()))
        except ValueError:
            continue
    return next((code for _, _, code in sorted(weighed) if code in LANGUAGES), "en")


# catalogues


def parse(text: str) -> dict[str, Entry]:
    """The entries of a ``.po`` file, without its header."""
    found: dict[str, Entry] = {}
    for block in re.split(r"\n\s*\n", text):
        parts: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            word, _, rest = line.partition(" ") if not line.startswith('"') else (name, "", line)
            name = word
            parts[name] = parts.get(name, "") + "".join(map(_unescaped, _STRING.findall(rest)))
        if parts.get("msgid"):
            forms = [parts[key] for key in ("msgstr", "msgstr[0]", "msgstr[1]") if key in parts]
            found[parts["msgid"]] = Entry(tuple(forms or [""]), parts.get("msgid_plural", ""), "#, fuzzy" in block)
    return found


def written(code: str, texts: Iterable[tuple[str, str]], held: Mapping[str, Entry]) -> str:
    """A catalogue with exactly these texts (singular, plural or empty), keeping the translations that are held."""
    lines = ['msgid ""', 'msgstr ""', f'"Language: {code}\\n"', '"Content-Type: text/plain; charset=UTF-8\\n"', ""]
    for one, many in sorted(set(texts)):
        entry = held.get(one, Entry(("", "") if many else ("",), many))
        lines += ["#, fuzzy"] if entry.fuzzy else []
        lines.append(f'msgid "{_escaped(one)}"')
        lines += [f'msgid_plural "{_escaped(many)}"'] if many else []
        if many:
            forms = (*entry.forms, "")[:2]
            lines += [f'msgstr[{at}] "{_escaped(form)}"' for at, form in enumerate(forms)]
        else:
            lines.append(f'msgstr "{_escaped(entry.forms[0])}"')
        lines.append("")
    return "\n".join(lines)


def texts() -> set[tuple[str, str]]:
    """Every text of templates and code that is to be translated: singular, and plural or nothing."""
    from federome.governance.application_form import FORM
    from federome.portal.drawing import environment

    asked = [question for section in FORM for question in section.questions]
    found = {
        (text, "") for text in (*(s.title for s in FORM), *(q.label for q in asked), *(q.help for q in asked)) if text
    }
    made = environment()
    for path in sorted((HERE / "templates").rglob("*.html")):
        for _line, _function, message in made.extract_translations(path.read_text(encoding="utf-8")):  # type: ignore[attr-defined]
            if message is not None:  # a text that the code holds, which is found there
                found.add((message, "") if isinstance(message, str) else (message[0], message[1]))
    for path in sorted(HERE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "N_":
                (argument,) = node.args
                found.add((str(ast.literal_eval(argument)), ""))
    return found


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPED.get(found[1], found[1]), text)


def refresh() -> None:
    """Bring every catalogue up to date with the texts there are."""
    there = texts()
    for code in LANGUAGES:
        if code != "en":
            path = LOCALE / f"{code}.po"
            held = parse(path.read_text(encoding="utf-8")) if path.is_file() else {}
            path.write_text(written(code, there, held), encoding="utf-8")


if __name__ == "__main__":
    refresh()
