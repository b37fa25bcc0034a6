"""How a page becomes HTML: one Jinja2 environment, everything escaped, nothing undefined passed over in silence."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from federome.portal.languages import LANGUAGES, Language

TEMPLATES: Final = Path(__file__).parent / "templates"


@cache
def environment() -> Environment:
    """The environment of all pages."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
        auto_reload=False,
        cache_size=-1,
    )
    made.install_gettext_callables(_gettext, _ngettext, newstyle=True)  # type: ignore[attr-defined]
    made.policies["ext.i18n.trimmed"] = True
    made.filters["day"] = _day
    made.globals["languages"] = LANGUAGES
    return made


def draw(template: str, language: Language, values: Mapping[str, object]) -> str:
    """A page's HTML."""
    return environment().get_template(template).render(language=language, **values)


@pass_context
def _gettext(context: Context, text: str) -> str:
    return _language(context).gettext(text)


@pass_context
def _ngettext(context: Context, one: str, many: str, count: int) -> str:
    return _language(context).ngettext(one, many, count)


@pass_context
def _day(context: Context, day: date | datetime | None) -> str | Markup:
    if day is None:
        return "–"
    written = day.date().isoformat() if isinstance(day, datetime) else day.isoformat()
    return Markup('<time datetime="{}">{}</time>').format(written, _language(context).day(day))


def _language(context: Context) -> Language:
    """The language of the page that is drawn; a macro that translates is imported ``with context``."""
    found = context["language"]
    assert isinstance(found, Language)
    return found
