"""Families as a PED file, and pedigrees that cannot be: whoever is their own ancestor is nobody's child.

Columns of PED (PLINK): family, individual, father, mother, sex, affection; ``0`` is nobody. People are named as in the
dataset, so an individual stands once in the whole file, whatever the family is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from federome.errors import Invalid

NAME: Final = "families.ped"
Parents = Mapping[str, tuple[str, str]]
NOWHERE: Final[Mapping[str, int]] = {}


def read_ped(path: Path) -> dict[str, tuple[str, str]]:
    """Child -> (father, mother), empty text for one who is not named. ``Invalid`` names the line."""
    found: dict[str, tuple[str, str]] = {}
    seen: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise Invalid("the pedigree is no UTF-8.", where=str(path), remedy="Export it as UTF-8.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split()
        if len(cells) < 5:
            raise Invalid("a line of a pedigree has at least five columns.", where=f"{path}:{number}",
                          remedy="Family, individual, father, mother, sex.")  # fmt: skip
        _, name, father, mother, sex = cells[:5]
        if name in seen:
            raise Invalid("the individual stands in an earlier line.", where=f"{path}:{number}", remedy="Keep one.")
        if sex not in ("0", "1", "2", "-9"):
            raise Invalid("the sex is no code of PED.", where=f"{path}:{number}", remedy="1 male, 2 female, 0 unknown.")
        seen[name] = number
        if (father, mother) != ("0", "0"):
            found[name] = ("" if father == "0" else father, "" if mother == "0" else mother)
    check_acyclic(found, str(path), seen)
    return found


def check_acyclic(parents: Parents, where: str, lines: Mapping[str, int] = NOWHERE) -> None:
    """``Invalid`` if somebody is their own ancestor, however far up; ``lines`` says where people stand."""
    done: set[str] = set()
    for child in parents:
        path: list[tuple[str, bool]] = [(child, False)]
        above: set[str] = set()
        while path:
            name, left = path.pop()
            if left:
                above.discard(name)
                done.add(name)
            elif name in above:
                place = f"{where}:{lines[name]}" if name in lines else where
                raise Invalid("somebody is their own ancestor.", where=place, remedy="Correct the parents.")
            elif name not in done and name in parents:
                above.add(name)
                path += [(name, True), *((parent, False) for parent in parents[name] if parent)]


def joined(told: Parents, ped: Parents, where: str) -> dict[str, tuple[str, str]]:
    """Parents of both files; ``Invalid`` where they contradict each other or make a circle."""
    for child in told.keys() & ped.keys():
        if any(one and other and one != other for one, other in zip(told[child], ped[child], strict=True)):
            raise Invalid("samples.csv and the pedigree name different parents.", where=where, remedy="Correct one.")
    both = dict(ped)
    for child, (father, mother) in told.items():
        other = ped.get(child, ("", ""))
        both[child] = (father or other[0], mother or other[1])
    check_acyclic(both, where)
    return both
