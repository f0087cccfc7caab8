"""Storing packs: profession, briefs and criteria are found again by their slugs, and what staff wrote since is kept.

Each row remembers a digest of every value that a pack gave it. A value that is still the one loaded follows the pack;
another one was written by staff and stays, and is named, unless the pack is to overwrite it.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from django.db import models, transaction

from professions.models import Brief, Competency, Criterion, Profession, StateVariable
from professions.packs import BriefPack, PackError, ProfessionPack, read_packs

Loadable = Profession | Competency | StateVariable | Brief | Criterion
Row = TypeVar("Row", Profession, Competency, StateVariable, Brief, Criterion)

_OF_A_PROFESSION = (
    "language",
    "title",
    "tagline",
    "description",
    "system_prompt",
    "report_opening",
    "report_closing",
    "occupation",
    "esco",
    "time_rule",
)
_OF_A_VARIABLE = ("title", "unit", "start", "minimum", "maximum", "good", "shown_as")
_OF_A_BRIEF = ("title", "time_limit_minutes", "aim_words", "description", "authored_text", "expert_answer")


class Parts(NamedTuple):
    """Rows that belong to another one: what they are called, and under which name that one remembers them."""

    name: str
    memory: str


COMPETENCIES = Parts("competency", "competencies")
VARIABLES = Parts("state variable", "variables")
BRIEFS = Parts("brief", "parts")
CRITERIA = Parts("criterion", "parts")


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
        self._store_competencies(profession)
        self._store_variables(profession)
        briefs = {brief.slug: brief for brief in self.pack.briefs}
        wanted = self._parts(profession, profession.briefs.all(), list(briefs), BRIEFS)
        for order, slug in enumerate(briefs, start=1):
            if slug in wanted:
                self._store_brief(profession, briefs[slug], order=order)
        # Behind the criteria, which may have had one of them.
        self._remove(
            profession, profession.competencies.all(), [one.slug for one in self.pack.competencies], COMPETENCIES
        )
        return self.loaded

    def _was_made_by_staff(self) -> bool:
        """Return whether a profession has this pack's name and nothing else of it."""
        made = Profession.objects.filter(slug=self.pack.slug, loaded={}).first()
        has_its_briefs = made and made.briefs.filter(slug__in=[brief.slug for brief in self.pack.briefs]).exists()
        return made is not None and not has_its_briefs and not self.overwrite

    def _values_of_profession(self) -> dict[str, Any]:
        return {name: getattr(self.pack, name) for name in _OF_A_PROFESSION}

    def _store_competencies(self, profession: Profession) -> None:
        packs = {one.slug: one for one in self.pack.competencies}
        wanted = self._wanted(profession, profession.competencies.all(), list(packs), COMPETENCIES)
        for order, (slug, pack) in enumerate(packs.items(), start=1):
            if slug in wanted:
                key = {"profession": profession, "slug": slug}
                self._row(Competency.objects.all(), key, {"order": order, "title": pack.title}, f"competency {slug}")

    def _store_variables(self, profession: Profession) -> None:
        packs = {one.slug: one for one in self.pack.variables}
        wanted = self._parts(profession, profession.variables.all(), list(packs), VARIABLES)
        for order, (slug, pack) in enumerate(packs.items(), start=1):
            if slug in wanted:
                values = {"order": order} | {name: getattr(pack, name) for name in _OF_A_VARIABLE}
                key = {"profession": profession, "slug": slug}
                self._row(StateVariable.objects.all(), key, values, f"state variable {slug}")

    def _store_brief(self, profession: Profession, pack: BriefPack, *, order: int) -> None:
        place = f"brief {pack.slug}"
        values = {"order": order} | {name: getattr(pack, name) for name in _OF_A_BRIEF}
        brief = self._row(Brief.objects.all(), {"profession": profession, "slug": pack.slug}, values, place)
        competencies = {one.slug: one for one in profession.competencies.all()}
        wanted = self._parts(
            brief, brief.criteria.all(), [one.slug for one in pack.criteria], CRITERIA, within=f"{place}, "
        )
        for number, criterion in enumerate(pack.criteria, start=1):
            if criterion.slug in wanted:
                key = {"brief": brief, "slug": criterion.slug}
                values = {"order": number, "title": criterion.title, "points": criterion.points}
                values |= {"levels": criterion.levels, "most_without_quotation": criterion.most_without_quotation}
                values |= {"competency": competencies.get(criterion.competency)}
                self._row(Criterion.objects.all(), key, values, f"{place}, criterion {criterion.slug}")

    def _row(self, rows: "models.QuerySet[Row]", key: dict[str, Any], values: dict[str, Any], place: str) -> Row:
        """Return the row with these values, but for those that staff have written since the last loading."""
        row, was_created = rows.get_or_create(**key, defaults=values)
        memory = dict(row.loaded)
        differing = [name for name, value in values.items() if getattr(row, name) != value]
        # What an earlier version of this program did not know, nobody has written since.
        known = [name for name in differing if not memory or name in memory]
        kept = [] if self.overwrite else [name for name in known if memory.get(name) != _digest(getattr(row, name))]
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

    def _remember(self, row: Loadable, memory: dict[str, Any]) -> None:
        if row.loaded != memory:
            row.loaded = memory
            row.save(update_fields=["loaded"])

    def _parts(
        self, whole: Profession | Brief, rows: "models.QuerySet[Any]", slugs: list[str], parts: Parts, within: str = ""
    ) -> set[str]:
        """Delete what the pack no longer has, and return the slugs to store: not what staff have deleted."""
        wanted = self._wanted(whole, rows, slugs, parts, within)
        self._remove(whole, rows, slugs, parts, within)
        return wanted

    def _wanted(
        self, whole: Profession | Brief, rows: "models.QuerySet[Any]", slugs: list[str], parts: Parts, within: str = ""
    ) -> set[str]:
        there = set(rows.values_list("slug", flat=True))
        before = set(whole.loaded.get(parts.memory, []))
        deleted = set() if self.overwrite else (before & set(slugs)) - there
        self.loaded.kept += [
            f"{within}{parts.name} {slug}, which was deleted here, stays so" for slug in sorted(deleted)
        ]
        return set(slugs) - deleted

    def _remove(
        self, whole: Profession | Brief, rows: "models.QuerySet[Any]", slugs: list[str], parts: Parts, within: str = ""
    ) -> None:
        before = set(whole.loaded.get(parts.memory, []))
        there = {row.slug: row for row in rows}
        for slug in sorted(there.keys() - set(slugs)):
            if self.overwrite or (slug in before and _is_as_loaded(there[slug])):
                self._delete(there[slug])
            elif slug in before:
                self.loaded.kept.append(f"{within}{parts.name} {slug}, which the pack no longer has")
        self._remember(whole, whole.loaded | {parts.memory: slugs})

    def _delete(self, row: Competency | StateVariable | Brief | Criterion) -> None:
        try:
            row.delete()
        except models.ProtectedError as error:
            raise PackError(
                f"{self.pack.path}: profession.briefs: put back {row.slug}; learners were given this task already"
            ) from error
        self.loaded.changed = True


def _is_as_loaded(row: Competency | StateVariable | Brief | Criterion) -> bool:
    own = {name: digest for name, digest in row.loaded.items() if name != "parts"}
    parts: Iterable[Criterion] = row.criteria.all() if isinstance(row, Brief) else ()
    return all(_digest(getattr(row, name)) == digest for name, digest in own.items()) and all(map(_is_as_loaded, parts))


def _digest(value: object) -> str:
    value = value.slug if isinstance(value, Competency) else value
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
