"""Storing packs: profession, briefs and criteria are found again by their slugs, and what staff wrote since is kept.

Each row remembers a digest of every value that a pack gave it. A value that is still the one loaded follows the pack;
another one was written by staff and stays, and is named, unless the pack is to overwrite it.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from django.db import models, transaction

from professions.models import Brief, Criterion, Profession
from professions.packs import BriefPack, PackError, ProfessionPack, read_packs

Row = TypeVar("Row", Profession, Brief, Criterion)

_OF_A_PROFESSION = (
    "language",
    "title",
    "tagline",
    "description",
    "system_prompt",
    "report_opening",
    "report_closing",
)
_OF_A_BRIEF = ("title", "time_limit_minutes", "description", "authored_text", "expert_answer")


@dataclass(slots=True)
class Loaded:
    """What became of a pack: whether anything was stored, and what staff wrote that stays."""

    pack: ProfessionPack
    changed: bool = False
    kept: list[str] = field(default_factory=list)


def load_packs(paths: list[Path], *, overwrite: bool = False) -> list[Loaded]:
    """Store every pack there, or none if one has a fault.

    Raises:
        PackError: with the faults of all packs; also for a pack without a brief that a learner was given.
    """
    packs = read_packs(paths)
    with transaction.atomic():
        return [_Loading(pack, overwrite=overwrite).store() for pack in packs]


class _Loading:
    def __init__(self, pack: ProfessionPack, *, overwrite: bool) -> None:
        self.pack = pack
        self.overwrite = overwrite
        self.loaded = Loaded(pack)

    def store(self) -> Loaded:
        if self._was_made_by_staff():
            self.loaded.kept.append("the profession, which was made here and not by a pack")
            return self.loaded
        profession = self._row(Profession.objects.all(), {"slug": self.pack.slug}, self._values_of_profession(), "")
        briefs = {brief.slug: brief for brief in self.pack.briefs}
        wanted = self._parts(profession, profession.briefs.all(), list(briefs), "brief")
        for order, slug in enumerate(briefs, start=1):
            if slug in wanted:
                self._store_brief(profession, briefs[slug], order=order)
        return self.loaded

    def _was_made_by_staff(self) -> bool:
        """Return whether a profession has this pack's name and nothing else of it."""
        made = Profession.objects.filter(slug=self.pack.slug, loaded={}).first()
        has_its_briefs = made and made.briefs.filter(slug__in=[brief.slug for brief in self.pack.briefs]).exists()
        return made is not None and not has_its_briefs and not self.overwrite

    def _values_of_profession(self) -> dict[str, Any]:
        return {name: getattr(self.pack, name) for name in _OF_A_PROFESSION}

    def _store_brief(self, profession: Profession, pack: BriefPack, *, order: int) -> None:
        place = f"brief {pack.slug}"
        values = {"order": order} | {name: getattr(pack, name) for name in _OF_A_BRIEF}
        brief = self._row(Brief.objects.all(), {"profession": profession, "slug": pack.slug}, values, place)
        wanted = self._parts(brief, brief.criteria.all(), [one.slug for one in pack.criteria], f"{place}, criterion")
        for number, criterion in enumerate(pack.criteria, start=1):
            if criterion.slug in wanted:
                key = {"brief": brief, "slug": criterion.slug}
                values = {"order": number, "title": criterion.title, "points": criterion.points}
                values |= {"levels": criterion.levels}
                self._row(Criterion.objects.all(), key, values, f"{place}, criterion {criterion.slug}")

    def _row(self, rows: "models.QuerySet[Row]", key: dict[str, Any], values: dict[str, Any], place: str) -> Row:
        """Return the row with these values, but for those that staff have written since the last loading."""
        row, was_created = rows.get_or_create(**key, defaults=values)
        memory = dict(row.loaded)
        differing = [name for name, value in values.items() if getattr(row, name) != value]
        kept = [] if self.overwrite else [name for name in differing if memory.get(name) != _digest(getattr(row, name))]
        for name in values.keys() - set(kept):
            setattr(row, name, values[name])
            memory[name] = _digest(values[name])
        if kept:
            self.loaded.kept.append(f"{place} ({', '.join(kept)})" if place else ", ".join(kept))
        if len(differing) > len(kept):
            row.loaded = memory
            row.save()
            self.loaded.changed = True
        self._remember(row, memory)
        self.loaded.changed |= was_created
        return row

    def _remember(self, row: Profession | Brief | Criterion, memory: dict[str, Any]) -> None:
        if row.loaded != memory:
            row.loaded = memory
            row.save(update_fields=["loaded"])

    def _parts(self, whole: Profession | Brief, rows: "models.QuerySet[Any]", slugs: list[str], place: str) -> set[str]:
        """Delete what the pack no longer has, and return the slugs to store: not what staff have deleted."""
        before = set(whole.loaded.get("parts", []))
        there = {row.slug: row for row in rows}
        for slug in sorted(there.keys() - set(slugs)):
            if self.overwrite or (slug in before and _is_as_loaded(there[slug])):
                self._delete(there[slug])
            elif slug in before:
                self.loaded.kept.append(f"{place} {slug}, which the pack no longer has")
        deleted = set() if self.overwrite else (before & set(slugs)) - there.keys()
        self.loaded.kept += [f"{place} {slug}, which was deleted here, stays so" for slug in sorted(deleted)]
        self._remember(whole, whole.loaded | {"parts": slugs})
        return set(slugs) - deleted

    def _delete(self, row: Brief | Criterion) -> None:
        try:
            row.delete()
        except models.ProtectedError as error:
            raise PackError(
                f"{self.pack.path}: profession.briefs: put back {row.slug}; learners were given this task already"
            ) from error
        self.loaded.changed = True


def _is_as_loaded(row: Brief | Criterion) -> bool:
    own = {name: digest for name, digest in row.loaded.items() if name != "parts"}
    parts: Iterable[Criterion] = row.criteria.all() if isinstance(row, Brief) else ()
    return all(_digest(getattr(row, name)) == digest for name, digest in own.items()) and all(map(_is_as_loaded, parts))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
