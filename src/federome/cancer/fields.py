"""Codes of a tumour as columns of a store: topography, morphology, TNM and stage, the same from whatever source."""

from __future__ import annotations

from collections.abc import Mapping

from federome.cancer import icdo, staging


def coded(line: Mapping[str, str]) -> dict[str, str]:
    """Columns of codes from ``topography``, ``morphology``, ``tnm`` and ``stage``, empty where nothing was said.

    ``stage`` is the group as recorded, ``stage_anatomical`` the one that follows from TNM. ``Invalid`` for codes that
    are none.
    """
    place = icdo.topography(line["topography"]) if line.get("topography") else ""
    kind = icdo.morphology(line["morphology"]) if line.get("morphology") else None
    tnm = staging.parse(line["tnm"]) if line.get("tnm") else None
    return {
        "icdo_topography": place,
        "icdo_morphology": kind.histology if kind else "",
        "icdo_behaviour": icdo.BEHAVIOURS[kind.behaviour] if kind else "",
        "tnm_t": tnm.t if tnm else "",
        "tnm_n": tnm.n if tnm else "",
        "tnm_m": tnm.m if tnm else "",
        "tnm_kind": (f"{tnm.kind}, after therapy" if tnm.after_therapy else tnm.kind) if tnm else "",
        "stage": staging.stage_group(line["stage"]) if line.get("stage") else "",
        "stage_anatomical": staging.anatomical(place, tnm) if tnm else "",
    }
