"""What browsers load lies with the app whose page it is, and what pages share at the bottom, as in Python."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

# From the bottom up: each may use what stands before it.
ROOMS = ["web", "accounts", "generation", "professions", "tasks"]
MODULES = sorted(path for room in ROOMS for path in (ROOT / room / "static" / room).rglob("*.js"))
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))


def below(room: str) -> set[str]:
    return {*ROOMS[: ROOMS.index(room) + 1], "vendor"}


def room_of(template: Path) -> str:
    """The app whose page a template is; the bottom for those of every page, and for the pages of packages."""
    parts = template.relative_to(ROOT / "templates").parts
    of_packages = {"account": "accounts", "allauth": "accounts", "mfa": "accounts"}
    folder = parts[1] if parts[0] == "admin" else parts[0]
    return of_packages.get(folder, folder if folder in ROOMS else "web")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_imports_from_rooms_below_its_own(module: Path) -> None:
    room = module.relative_to(ROOT).parts[0]
    imported = re.findall(r'(?:from|import) "([^"]+)"|import\("([^"]+)"\)', module.read_text(encoding="utf-8"))
    for one, other in imported:
        target = (module.parent / (one or other)).resolve()
        assert target.relative_to(ROOT / room / "static").parts[0] in below(room)
    assert len(module.read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("template", TEMPLATES, ids=str)
def test_a_page_loads_what_is_its_apps_or_everybodys(template: Path) -> None:
    named = re.findall(r'static "([^/"]+)/|"/static/([^/"]+)/', template.read_text(encoding="utf-8"))
    assert {one or other for one, other in named} <= below(room_of(template))


def test_the_wiring_has_no_static_files_of_its_own() -> None:
    assert not (ROOT / "simulator" / "static").exists()
    assert len(MODULES) > 25
