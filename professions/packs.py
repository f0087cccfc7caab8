"""Profession packs: one YAML file holds one profession with its briefs and criteria.

A pack is read whole and checked whole before any of it is stored (loading.py), so a pack with a fault changes nothing.
"""

import re
import reprlib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from professions import plain_yaml
from professions.levels import LARGEST_EFFECT, Level, leaning_level, problem_with_levels
from professions.models import MOST_MINUTES, MOST_POINTS, MOST_WORDS, StateVariable

FORMAT = 2
EARLIER_FORMAT = 1
OCCUPATION = re.compile(r"\d{2}-\d{4}\.\d{2}")
SHIPPED = Path(__file__).parent / "packs"
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


# Ten times what the longest shipped pack has. Reading takes a second for each half of this.
LARGEST_BYTES = 256 * 1024
MOST_ENTRIES = 100
MOST_FAULTS = 20


class PackError(Exception):
    """A pack that cannot be loaded; the message names the file, every faulty place, and what to do there."""


@dataclass(frozen=True, slots=True)
class CompetencyPack:
    slug: str
    title: str


@dataclass(frozen=True, slots=True)
class VariablePack:
    slug: str
    title: str
    unit: str
    start: int
    minimum: int
    maximum: int
    good: str
    shown_as: str


@dataclass(frozen=True, slots=True)
class CriterionPack:
    slug: str
    title: str
    points: int
    competency: str
    most_without_quotation: int
    levels: list[Level]


@dataclass(frozen=True, slots=True)
class BriefPack:
    slug: str
    title: str
    time_limit_minutes: int
    aim_words: int | None
    description: str
    authored_text: str
    expert_answer: str
    criteria: list[CriterionPack]


@dataclass(frozen=True, slots=True)
class ProfessionPack:
    path: Path
    slug: str
    language: str
    title: str
    tagline: str
    description: str
    system_prompt: str
    report_opening: str
    report_closing: str
    occupation: str
    esco: str
    time_rule: str
    competencies: list[CompetencyPack]
    variables: list[VariablePack]
    briefs: list[BriefPack]


@dataclass(slots=True)
class _Reader:
    """Reads entries of parsed YAML and records each fault with its place instead of stopping at the first."""

    faults: list[str] = field(default_factory=list)
    shapeless: list[str] = field(default_factory=list)  # places whose entries cannot be looked for

    def fault(self, place: str, remedy: str) -> None:
        if not any(place.startswith(f"{outer}.") for outer in self.shapeless):
            self.faults.append(f"{place}: {remedy}")

    def mapping(self, value: Any, place: str, *, known: set[str]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.fault(place, f"write a mapping with the entries {', '.join(sorted(known))}")
            self.shapeless.append(place)
            return {}
        for name in sorted(set(map(str, value)) - known):
            self.fault(
                f"{place}.{_shown(name)}", f"remove it or correct its name; known are {', '.join(sorted(known))}"
            )
        return value

    def text(self, source: dict[str, Any], name: str, place: str, *, longest: int | None = None) -> str:
        value = source.get(name)
        if not isinstance(value, str) or not value.strip():
            self.fault(f"{place}.{name}", "write a text that is not empty")
            return ""
        value = value.strip()
        if longest is not None and len(value) > longest:
            self.fault(f"{place}.{name}", f"shorten it to {longest} characters; it has {len(value)}")
        return value

    def text_if_any(self, source: dict[str, Any], name: str, place: str, *, longest: int) -> str:
        return self.text(source, name, place, longest=longest) if name in source else ""

    def choice(self, source: dict[str, Any], name: str, place: str, *, among: Collection[str], default: str) -> str:
        value = source.get(name, default)
        if value not in among:
            self.fault(f"{place}.{name}", f"write one of {', '.join(among)}; it is {reprlib.repr(value)}")
            return default
        return str(value)

    def slug(self, source: dict[str, Any], place: str, *, name: str = "slug") -> str:
        value = self.text(source, name, place, longest=50)
        if value and not SLUG.fullmatch(value):
            self.fault(f"{place}.{name}", f"use small letters, digits and single hyphens; it is {reprlib.repr(value)}")
        return value

    def number(self, source: dict[str, Any], name: str, place: str, *, least: int, most: int) -> int | None:
        value = source.get(name)
        if type(value) is not int or not least <= value <= most:
            self.fault(f"{place}.{name}", f"write a whole number from {least} to {most}; it is {reprlib.repr(value)}")
            return None
        return value

    def entries(self, source: dict[str, Any], name: str, place: str) -> list[tuple[str, Any]]:
        value = source.get(name)
        if not isinstance(value, list) or not value:
            self.fault(f"{place}.{name}", "write a list with at least one entry")
            return []
        if len(value) > MOST_ENTRIES:
            self.fault(f"{place}.{name}", f"write {MOST_ENTRIES} entries at most; it has {len(value)}")
            return []
        return [(f"{place}.{name}[{number}]", entry) for number, entry in enumerate(value, start=1)]

    def entries_if_any(self, source: dict[str, Any], name: str, place: str) -> list[tuple[str, Any]]:
        return self.entries(source, name, place) if name in source else []

    def unique(self, slugs: list[str], place: str) -> None:
        for slug in sorted({slug for slug in slugs if slug and slugs.count(slug) > 1}):
            self.fault(place, f"give each entry a slug of its own; {slug!r} occurs {slugs.count(slug)} times")


def _shown(name: str) -> str:
    """Return a name as it is, unless it would fill or upset a terminal."""
    return name if re.fullmatch(r"[\w .-]{1,50}", name) else reprlib.repr(name)


def read_pack(path: Path) -> ProfessionPack:
    """Read and check one pack.

    Raises:
        PackError: with one line for each fault, `file: place: remedy`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise PackError(f"{path}: shorten it to {LARGEST_BYTES} bytes; a profession with ten briefs has 50,000")
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PackError(f"{path}: cannot be read ({error}); name a UTF-8 file or a folder that holds some") from error
    try:
        document = plain_yaml.parse(text)
    except plain_yaml.PlainYAMLError as error:
        raise PackError(f"{path}: is not YAML; mend this place: {error}") from error
    reader = _Reader()
    pack = _profession(reader, document, path)
    if reader.faults:
        told = [f"{path}: {fault}" for fault in reader.faults[:MOST_FAULTS]]
        more = len(reader.faults) - len(told)
        raise PackError("\n".join(told + [f"{path}: mend these first; there are {more} more"] * bool(more)))
    return pack


def _profession(reader: _Reader, document: Any, path: Path) -> ProfessionPack:
    place = "profession"
    texts = ("tagline", "description", "system_prompt", "report_opening", "report_closing")
    added = ("occupation", "esco", "time_rule", "competencies", "state")
    is_earlier = isinstance(document, dict) and document.get("format") == EARLIER_FORMAT
    known = {"format", "slug", "language", "title", "briefs", *texts, *(() if is_earlier else added)}
    source = reader.mapping(document, place, known=known)
    if source.get("format") not in {FORMAT, EARLIER_FORMAT}:
        reader.fault(
            f"{place}.format",
            f"write {FORMAT}, the format this version reads; it is {reprlib.repr(source.get('format'))}",
        )
    competencies = [
        _competency(reader, entry, at) for at, entry in reader.entries_if_any(source, "competencies", place)
    ]
    reader.unique([competency.slug for competency in competencies], f"{place}.competencies")
    variables = [_variable(reader, entry, at) for at, entry in reader.entries_if_any(source, "state", place)]
    reader.unique([variable.slug for variable in variables], f"{place}.state")
    around = _Around(is_earlier, [one.slug for one in competencies], [one.slug for one in variables])
    briefs = [_brief(reader, entry, where, around) for where, entry in reader.entries(source, "briefs", place)]
    reader.unique([brief.slug for brief in briefs], f"{place}.briefs")
    occupation = reader.text_if_any(source, "occupation", place, longest=10)
    if occupation and not OCCUPATION.fullmatch(occupation):
        reader.fault(f"{place}.occupation", "write an O*NET-SOC code in quotes, such as '29-1141.00'")
    esco = reader.text_if_any(source, "esco", place, longest=200)
    if esco and not re.fullmatch(r"https?://\S+", esco):
        reader.fault(f"{place}.esco", "write the URI of an ESCO occupation, or leave it out")
    return ProfessionPack(
        path=path,
        slug=reader.slug(source, place),
        language=reader.text(source, "language", place, longest=12),
        title=reader.text(source, "title", place, longest=120),
        tagline=reader.text(source, "tagline", place, longest=200),
        description=reader.text(source, "description", place),
        system_prompt=reader.text(source, "system_prompt", place),
        report_opening=reader.text(source, "report_opening", place),
        report_closing=reader.text(source, "report_closing", place),
        occupation=occupation,
        esco=esco,
        time_rule=reader.choice(source, "time_rule", place, among=("soft", "hard"), default="soft"),
        competencies=competencies,
        variables=variables,
        briefs=briefs,
    )


@dataclass(frozen=True, slots=True)
class _Around:
    """What briefs and criteria need to know of the profession around them."""

    is_earlier_format: bool
    competencies: list[str]
    variables: list[str]


def _competency(reader: _Reader, entry: Any, place: str) -> CompetencyPack:
    source = reader.mapping(entry, place, known={"slug", "title"})
    return CompetencyPack(slug=reader.slug(source, place), title=reader.text(source, "title", place, longest=80))


def _variable(reader: _Reader, entry: Any, place: str) -> VariablePack:
    numbers = ("start", "minimum", "maximum")
    source = reader.mapping(entry, place, known={"key", "title", "unit", "good", "shown_as", *numbers})
    source = {"minimum": 0, "maximum": 100, **source}
    start, minimum, maximum = (
        reader.number(source, name, place, least=-LARGEST_EFFECT, most=LARGEST_EFFECT) for name in numbers
    )
    if None not in (start, minimum, maximum) and not (minimum or 0) <= (start or 0) <= (maximum or 0):
        reader.fault(f"{place}.start", f"let it lie between {minimum} and {maximum}; it is {start}")
    return VariablePack(
        slug=reader.slug(source, place, name="key"),
        title=reader.text(source, "title", place, longest=80),
        unit=reader.text_if_any(source, "unit", place, longest=20),
        start=start or 0,
        minimum=minimum or 0,
        maximum=maximum or 0,
        good=reader.choice(source, "good", place, among=StateVariable.Good.values, default="up"),
        shown_as=reader.choice(source, "shown_as", place, among=StateVariable.ShownAs.values, default="gauge"),
    )


def _brief(reader: _Reader, entry: Any, place: str, around: _Around) -> BriefPack:
    texts = ("title", "description", "authored_text", "expert_answer")
    added = () if around.is_earlier_format else ("aim_words",)
    source = reader.mapping(entry, place, known={"slug", "time_limit_minutes", "criteria", *texts, *added})
    criteria = [_criterion(reader, entry, where, around) for where, entry in reader.entries(source, "criteria", place)]
    reader.unique([criterion.slug for criterion in criteria], f"{place}.criteria")
    aim = reader.number(source, "aim_words", place, least=10, most=MOST_WORDS) if "aim_words" in source else None
    return BriefPack(
        slug=reader.slug(source, place),
        title=reader.text(source, "title", place, longest=120),
        time_limit_minutes=reader.number(source, "time_limit_minutes", place, least=1, most=MOST_MINUTES) or 1,
        aim_words=aim,
        description=reader.text(source, "description", place),
        authored_text=reader.text(source, "authored_text", place),
        expert_answer=reader.text(source, "expert_answer", place),
        criteria=criteria,
    )


def _criterion(reader: _Reader, entry: Any, place: str, around: _Around) -> CriterionPack:
    added = () if around.is_earlier_format else ("competency", "most_without_quotation")
    source = reader.mapping(entry, place, known={"slug", "title", "points", "levels", *added})
    points = reader.number(source, "points", place, least=1, most=MOST_POINTS)
    without = 0
    if "most_without_quotation" in source:
        without = reader.number(source, "most_without_quotation", place, least=0, most=points or MOST_POINTS) or 0
    competency = reader.text_if_any(source, "competency", place, longest=50)
    if competency and competency not in around.competencies:
        known = ", ".join(around.competencies) or "none yet"
        reader.fault(f"{place}.competency", f"name one of the profession's competencies ({known})")
    return CriterionPack(
        slug=reader.slug(source, place),
        title=reader.text(source, "title", place, longest=120),
        points=points or 1,
        competency=competency,
        most_without_quotation=without,
        levels=_levels(reader, source.get("levels"), f"{place}.levels", around, points=points),
    )


def _levels(reader: _Reader, levels: Any, place: str, around: _Around, *, points: int | None) -> list[Level]:
    if problem := problem_with_levels(levels, maximum=points, variables=around.variables):
        reader.fault(place, problem)
        return []
    read = [_level(level) for level in levels]
    if not around.is_earlier_format and (leaning := leaning_level(read)):
        beginning = reprlib.repr(leaning)
        reader.fault(place, f"say the whole rule in each level, without leaning on another one: {beginning}")
    return read


def _level(source: dict[str, Any]) -> Level:
    level = Level(points=source["points"], description=source["description"].strip())
    if source.get("effects"):
        level |= {"effects": dict(source["effects"]), "because": source["because"].strip()}
    if "note" in source:
        level["note"] = source["note"].strip()
    return level


def read_packs(paths: list[Path]) -> list[ProfessionPack]:
    """Return every pack there. Raises PackError with the faults of all of them."""
    packs: dict[str, ProfessionPack] = {}
    faults = []
    for path in pack_files(paths):
        try:
            pack = read_pack(path)
        except PackError as error:
            faults.append(str(error))
            continue
        first = packs.setdefault(pack.slug, pack)
        if first.path.resolve() != path.resolve():
            faults.append(f"{path}: profession.slug: choose another; {first.path} has {pack.slug!r} too")
    if faults:
        raise PackError("\n".join(faults))
    return list(packs.values())


def pack_files(paths: list[Path]) -> list[Path]:
    """Return the pack files that are named or lie in the folders named; the shipped ones for no path.

    Raises:
        PackError: for a folder without any.
    """
    found: list[Path] = []
    for path in paths or [SHIPPED]:
        files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
        if not files:
            raise PackError(f"{path}: holds no .yaml file; name a pack or a folder that holds some")
        found += files
    return found
