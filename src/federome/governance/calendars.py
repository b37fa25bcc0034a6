"""Working days of a country: Monday to Friday without its public holidays, for the clocks of an application."""

from __future__ import annotations

from datetime import date
from functools import cache

import holidays

from federome.errors import Invalid
from federome.governance.clocks import Calendar


@cache
def calendar_of(country: str, first_year: int, last_year: int) -> Calendar:
    """The calendar of a country (ISO 3166-1, two letters) for these years, both included.

    Public holidays of the whole country only: a regional holiday does not stop a national clock.
    ``Invalid`` for a country whose holidays are not known.
    """
    try:
        known = holidays.country_holidays(country, years=range(first_year, last_year + 1))
    except NotImplementedError as error:
        raise Invalid("no public holidays are known for this country.", where=country[:8]) from error
    return Calendar(tuple(sorted(day for day in known if isinstance(day, date))))
