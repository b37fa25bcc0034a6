"""How a person shows the hub who asks: see ``trust/people.py``, where the client finds the same functions."""

from __future__ import annotations

from federome.trust.people import check_person as check_person
from federome.trust.people import person_token as person_token
