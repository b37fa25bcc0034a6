"""The pictures of docs/tutorial/portal.md, from those that the portal's tests leave in build/: cut, small, few colours.

python -m pytest tests/functional/portal && python tests/functional/portal/tour.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

SHOTS, TO = Path("build") / "screenshots", Path("docs") / "tutorial"
PICTURES = {
    "portal-frequencies": "a variant",
    "portal-project": "portal-register-{project}",
    "portal-application": "journey/4-veto-window",
    "portal-queue": "journey/6-nation-queue",
    "portal-ask": "a question asked",
    "portal-run": "a run complete",
    "portal-log": "portal-log",
    "portal-matches": "node matches",
    "portal-standing": "node a standing question",
    "portal-contact": "node a contact agreed",
}
WIDTH, TALLEST = 720, 800


def main() -> None:
    for name, shot in PICTURES.items():
        with Image.open(SHOTS / f"{shot}.png") as whole:
            small = whole.convert("RGB").resize((WIDTH, whole.height * WIDTH // whole.width), Image.Resampling.LANCZOS)
        cut = small.crop((0, 0, WIDTH, min(small.height, TALLEST)))
        cut.quantize(64).save(TO / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
