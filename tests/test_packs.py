"""Profession packs: what is shipped, loading twice, editing, and every fault with its place and remedy."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command

from accounts.models import User
from professions.models import Brief, Competency, Criterion, Profession, StateVariable
from professions.packs import SHIPPED
from tasks import running

pytestmark = pytest.mark.django_db

Pack = dict[str, Any]


def gardener(**changes: object) -> Pack:
    return {
        "format": 2,
        "slug": "gardener",
        "language": "en",
        "title": "Gardener",
        "tagline": "What a gardener does all day.",
        "description": "You are a **gardener** in Port Ellary.",
        "system_prompt": "You write tasks for a gardener.",
        "report_opening": "You have seen two days.",
        "report_closing": "Plant something.",
        "occupation": "37-3011.00",
        "competencies": [{"slug": "looking", "title": "Looking"}, {"slug": "asking", "title": "Asking"}],
        "state": [{"key": "trust", "title": "Amara's trust", "start": 60}],
        "briefs": [brief("roses"), brief("hedge")],
    } | changes


def brief(slug: str) -> Pack:
    return {
        "slug": slug,
        "title": slug.capitalize(),
        "time_limit_minutes": 10,
        "description": f"The {slug} has mildew.",
        "authored_text": f"Amara asks about the {slug}.",
        "expert_answer": "Cut back a third.",
        "criteria": [
            {
                "slug": "names-the-cause",
                "title": "Names the cause",
                "points": 2,
                "competency": "looking",
                "levels": [
                    {
                        "points": 0,
                        "description": "No cause.",
                        "effects": {"trust": -15},
                        "because": "nobody looked at the leaves",
                        "note": "Amara has asked somebody else.",
                    },
                    {"points": 2, "description": "Mildew."},
                ],
            }
        ],
    }


def load(*paths: Path, overwrite: bool = False) -> str:
    out = io.StringIO()
    call_command("load_professions", *map(str, paths), overwrite=overwrite, stdout=out)
    return out.getvalue()


def refusal(*paths: Path) -> list[str]:
    with pytest.raises(CommandError) as caught:
        load(*paths)
    return str(caught.value).splitlines()


Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    def written(pack: Pack, name: str = "gardener.yaml") -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(pack, allow_unicode=True), encoding="utf-8")
        return path

    return written


def everything_stored() -> list[str]:
    models = (Profession, Competency, StateVariable, Brief, Criterion)
    rows = [row for model in models for row in model.objects.values_list()]
    return sorted(map(str, rows))


def test_the_shipped_professions_have_five_valid_briefs_each() -> None:
    assert load().splitlines() == [
        "nurse: loaded, 5 briefs",
        "project-manager: loaded, 5 briefs",
        "site-reliability-engineer: loaded, 5 briefs",
    ]
    for profession in Profession.objects.all():
        profession.full_clean()
        assert [brief.order for brief in profession.ordered_briefs] == [1, 2, 3, 4, 5]
    for row in (*Brief.objects.all(), *Criterion.objects.all()):
        row.full_clean()
    assert not Brief.objects.filter(criteria=None).exists()
    assert Profession.objects.published().count() == 3


def test_loading_twice_changes_nothing() -> None:
    load()
    before = everything_stored()
    assert all(line.endswith(": unchanged, 5 briefs") for line in load().splitlines())
    assert everything_stored() == before


def test_editing_a_pack_updates_its_rows_in_place(write: Writer) -> None:
    load(write(gardener()))
    keys = dict(Brief.objects.values_list("slug", "pk"))
    edited = gardener(title="Head gardener")
    edited["briefs"] = [brief("pond"), brief("hedge") | {"title": "The long hedge"}, brief("roses")]
    edited["briefs"][2]["criteria"][0]["levels"][1]["description"] = "Powdery mildew."
    assert load(write(edited)) == "gardener: loaded, 3 briefs\n"
    profession = Profession.objects.get()
    assert profession.title == "Head gardener"
    assert [(row.slug, row.title) for row in profession.ordered_briefs] == [
        ("pond", "Pond"),
        ("hedge", "The long hedge"),
        ("roses", "Roses"),
    ]
    assert {row.slug: row.pk for row in profession.ordered_briefs[1:]} == keys
    assert Criterion.objects.get(brief__slug="roses").levels[1] == {"points": 2, "description": "Powdery mildew."}
    assert Criterion.objects.count() == 3


def test_a_pack_of_the_earlier_format_still_loads(write: Writer) -> None:
    earlier = gardener(format=1)
    for name in ("occupation", "competencies", "state"):
        del earlier[name]
    for one in earlier["briefs"]:
        (criterion,) = one["criteria"]
        del criterion["competency"]
        criterion["levels"] = [{"points": 0, "description": "As before."}, {"points": 2, "description": "Mildew."}]
    assert load(write(earlier)) == "gardener: loaded, 2 briefs\n"
    stored = Criterion.objects.filter(competency=None, most_without_quotation=0)
    assert stored.count() == 2
    assert load(write(gardener())) == "gardener: loaded, 2 briefs\n", "and becomes one of this format"
    assert Criterion.objects.filter(competency__slug="looking").count() == 2
    assert Profession.objects.get().variables.get().slug == "trust"


def test_entries_that_the_earlier_format_does_not_know_are_refused_in_it(write: Writer) -> None:
    (*_, line) = refusal(write(gardener(format=1)))
    assert "competency: remove it or correct its name; known are levels, points, slug, title" in line


def test_what_staff_wrote_of_competencies_and_state_stays(write: Writer) -> None:
    load(write(gardener()))
    Profession.objects.get().competencies.filter(slug="asking").update(title="Asking twice")
    Profession.objects.get().variables.update(start=70)
    edited = gardener(title="Head gardener")
    edited["competencies"][1]["title"] = "Asking people"
    edited["state"][0]["start"] = 50
    said = load(write(edited))
    assert "competency asking (title)" in said
    assert "state variable trust (start)" in said
    assert Profession.objects.get().variables.get().start == 70
    assert "kept" not in load(write(edited), overwrite=True)
    assert Profession.objects.get().competencies.get(slug="asking").title == "Asking people"


def test_a_competency_that_a_pack_no_longer_has_goes_and_its_criteria_follow(write: Writer) -> None:
    load(write(gardener()))
    edited = gardener()
    edited["competencies"] = [{"slug": "seeing", "title": "Seeing"}]
    for one in edited["briefs"]:
        one["criteria"][0]["competency"] = "seeing"
    assert load(write(edited)) == "gardener: loaded, 2 briefs\n"
    assert list(Profession.objects.get().competencies.values_list("slug", flat=True)) == ["seeing"]
    assert Criterion.objects.filter(competency__slug="seeing").count() == 2


def test_what_a_pack_no_longer_has_is_removed(write: Writer) -> None:
    longer = gardener()
    longer["briefs"][0]["criteria"].append(longer["briefs"][0]["criteria"][0] | {"slug": "is-kind"})
    load(write(longer))
    assert load(write(gardener())) == "gardener: loaded, 2 briefs\n"
    assert set(Criterion.objects.values_list("slug", flat=True)) == {"names-the-cause"}
    assert load(write(gardener(briefs=[brief("roses")]))) == "gardener: loaded, 1 briefs\n"
    assert list(Brief.objects.values_list("slug", flat=True)) == ["roses"]


def test_what_staff_decided_about_a_profession_outlives_the_next_loading(write: Writer) -> None:
    load(write(gardener()))
    Profession.objects.update(published=False, position=7)
    load(write(gardener(title="Head gardener")))
    stored = Profession.objects.get()
    assert (stored.title, stored.published, stored.position) == ("Head gardener", False, 7)


class TestWhatStaffWrote:
    def test_is_kept_and_named_where_the_pack_says_something_else(self, write: Writer) -> None:
        load(write(gardener()))
        Profession.objects.update(tagline="Ours.")
        Brief.objects.filter(slug="roses").update(authored_text="Ours.", time_limit_minutes=7)
        Criterion.objects.filter(brief__slug="hedge").update(title="Ours.")
        said = load(write(gardener(title="Head gardener")))
        assert said.splitlines() == [
            "gardener: loaded, 2 briefs",
            "gardener: kept as staff have it: tagline",
            "gardener: kept as staff have it: brief roses (time_limit_minutes, authored_text)",
            "gardener: kept as staff have it: brief hedge, criterion names-the-cause (title)",
            "--overwrite takes what the packs say instead.",
        ]
        assert Profession.objects.get().title == "Head gardener", "what they did not touch follows the pack"
        assert Profession.objects.get().tagline == "Ours."
        before = everything_stored()
        assert load(write(gardener(title="Head gardener"))).startswith("gardener: unchanged, 2 briefs")
        assert everything_stored() == before

    def test_is_replaced_on_request(self, write: Writer) -> None:
        load(write(gardener()))
        Brief.objects.filter(slug="roses").update(authored_text="Ours.")
        Brief.objects.filter(slug="hedge").delete()
        Brief.objects.create(profession=Profession.objects.get(), slug="own", order=9, time_limit_minutes=5)
        assert load(write(gardener()), overwrite=True) == "gardener: loaded, 2 briefs\n"
        assert sorted(Brief.objects.values_list("slug", "authored_text")) == [
            ("hedge", "Amara asks about the hedge."),
            ("roses", "Amara asks about the roses."),
        ]

    def test_follows_the_pack_again_when_they_take_it_back(self, write: Writer) -> None:
        load(write(gardener()))
        Profession.objects.update(title="Ours")
        load(write(gardener(title="Head gardener")))
        Profession.objects.update(title="Gardener")
        load(write(gardener(title="Head gardener")))
        assert Profession.objects.get().title == "Head gardener"

    def test_stays_where_they_have_added_or_deleted_briefs_and_criteria(self, write: Writer) -> None:
        load(write(gardener()))
        Brief.objects.filter(slug="hedge").delete()
        Criterion.objects.filter(brief__slug="roses").delete()
        Brief.objects.create(profession=Profession.objects.get(), slug="own", order=9, time_limit_minutes=5)
        said = load(write(gardener()))
        assert "kept as staff have it: brief hedge, which was deleted here, stays so" in said
        assert "brief roses, criterion names-the-cause, which was deleted here, stays so" in said
        assert set(Brief.objects.values_list("slug", flat=True)) == {"roses", "own"}

    def test_stays_in_a_brief_that_the_pack_no_longer_has(self, write: Writer) -> None:
        load(write(gardener()))
        Criterion.objects.filter(brief__slug="hedge").update(title="Ours.")
        said = load(write(gardener(briefs=[brief("roses")])))
        assert "kept as staff have it: brief hedge, which the pack no longer has" in said
        assert Brief.objects.count() == 2

    def test_is_a_profession_of_their_own_though_a_pack_has_its_name(self, write: Writer) -> None:
        own = Profession.objects.create(slug="gardener", title="Ours")
        Brief.objects.create(profession=own, slug="own", order=1, time_limit_minutes=5)
        assert load(write(gardener())).splitlines()[:2] == [
            "gardener: unchanged, 2 briefs",
            "gardener: kept as staff have it: the profession, which was made here and not by a pack",
        ]
        assert Brief.objects.get().slug == "own"

    def test_is_taken_for_theirs_where_an_earlier_version_remembered_nothing(self, write: Writer) -> None:
        load(write(gardener()))
        for model in (Profession, Brief, Criterion):
            model.objects.update(loaded={})
        assert load(write(gardener())) == "gardener: unchanged, 2 briefs\n"
        assert load(write(gardener(title="Head gardener"))) == "gardener: loaded, 2 briefs\n"
        Profession.objects.update(loaded={})
        assert "kept as staff have it: title" in load(write(gardener(title="First gardener")))


def test_a_brief_that_learners_were_given_cannot_be_dropped(write: Writer, alice: User) -> None:
    load(write(gardener()))
    running.open_simulation(user=alice, profession=Profession.objects.get(), language="en")
    before = everything_stored()
    path = write(gardener(title="Head gardener", briefs=[brief("hedge")]))
    assert refusal(path) == [f"{path}: profession.briefs: put back roses; learners were given this task already"]
    assert everything_stored() == before


def replaced(place: str, value: object) -> Pack:
    """Give the gardener with another value at a place such as `briefs.0.title`; None takes the entry away."""
    pack = gardener()
    *way, last = [int(step) if step.isdigit() else step for step in place.split(".")]
    inner: Any = pack
    for step in way:
        inner = inner[step]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return pack


FIRST = "profession.briefs[1]"
LEVELS = f"{FIRST}.criteria[1].levels"
CRITERION = "briefs.0.criteria.0"
AT = f"{FIRST}.criteria[1]"
NOUGHT = {"points": 0, "description": "No cause."}


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("format", 3, "profession.format: write 2, the format this version reads; it is 3"),
        ("format", None, "profession.format: write 2, the format this version reads; it is None"),
        ("occupation", "nurse", "profession.occupation: write an O*NET-SOC code in quotes, such as '29-1141.00'"),
        ("esco", "nurse", "profession.esco: write the URI of an ESCO occupation, or leave it out"),
        ("time_rule", "strict", "profession.time_rule: write one of soft, hard; it is 'strict'"),
        ("competencies.1.slug", "looking", "profession.competencies: give each entry a slug of its own; 'looking'"),
        ("state.0.title", "", "profession.state[1].title: write a text that is not empty"),
        ("state.0.start", 101, "profession.state[1].start: let it lie between 0 and 100; it is 101"),
        ("state.0.good", "left", "profession.state[1].good: write one of up, down; it is 'left'"),
        ("briefs.0.aim_words", 9, f"{FIRST}.aim_words: write a whole number from 10 to 2000; it is 9"),
        (f"{CRITERION}.competency", "luck", f"{AT}.competency: name one of the profession's competencies (looking, as"),
        (f"{CRITERION}.most_without_quotation", 3, f"{AT}.most_without_quotation: write a whole number from 0 to 2"),
        (f"{CRITERION}.levels.0.effects", {"luck": 1}, f"{AT}.levels: name state variables of the profession in effe"),
        (f"{CRITERION}.levels.0.effects", {"trust": 0}, f"{AT}.levels: write effects as whole numbers by the key of "),
        (f"{CRITERION}.levels.0.effects", [], f"{AT}.levels: write effects as whole numbers by the key of "),
        (f"{CRITERION}.levels.0.because", " ", f"{AT}.levels: say why in because where a level has effects, and only"),
        (f"{CRITERION}.levels.1.because", "so", f"{AT}.levels: say why in because where a level has effects, and only"),
        (f"{CRITERION}.levels.0.note", "", f"{AT}.levels: write a note that is not empty, or none"),
        (
            f"{CRITERION}.levels.1.description",
            "As before, and names the mildew.",
            f"{AT}.levels: say the whole rule in each level, without leaning on another one: 'As before,",
        ),
        ("description", None, "profession.description: write a text that is not empty"),
        ("briefs.0.authored_text", "  \n", f"{FIRST}.authored_text: write a text that is not empty"),
        ("title", 7, "profession.title: write a text that is not empty"),
        ("title", "x" * 121, "profession.title: shorten it to 120 characters; it has 121"),
        ("slug", "The Gardener", "profession.slug: use small letters, digits and single hyphens; it is 'The Gardener'"),
        ("briefs.0.tilte", "Roses", f"{FIRST}.tilte: remove it or correct its name; known are aim_words, "),
        ("briefs", "roses", "profession.briefs: write a list with at least one entry"),
        ("briefs", [], "profession.briefs: write a list with at least one entry"),
        ("briefs.0.criteria", [], f"{FIRST}.criteria: write a list with at least one entry"),
        ("briefs.0.criteria.0", "kind", f"{FIRST}.criteria[1]: write a mapping with the entries competency, levels, "),
        ("briefs.1.slug", "roses", "profession.briefs: give each entry a slug of its own; 'roses' occurs 2 times"),
        ("briefs.0.time_limit_minutes", 0, f"{FIRST}.time_limit_minutes: write a whole number from 1 to 240; it is 0"),
        ("briefs.0.time_limit_minutes", 241, f"{FIRST}.time_limit_minutes: write a whole number from 1 to 240; it is"),
        ("briefs.0.time_limit_minutes", True, f"{FIRST}.time_limit_minutes: write a whole number from 1 to 240; it is"),
        ("briefs.0.criteria.0.points", "2", f"{FIRST}.criteria[1].points: write a whole number from 1 to 100; it is"),
        ("briefs.0.criteria.0.levels", [NOUGHT], f"{LEVELS}: write a list of at least two levels"),
        (
            "briefs.0.criteria.0.levels",
            [NOUGHT, {"points": 2}],
            f"{LEVELS}: write each level with the two entries points and description",
        ),
        (
            "briefs.0.criteria.0.levels.1.description",
            5,
            f"{LEVELS}: write whole points and a description that is not empty in each level",
        ),
        (
            "briefs.0.criteria.0.levels.1.points",
            True,
            f"{LEVELS}: write whole points and a description that is not empty in each level",
        ),
        (
            "briefs.0.criteria.0.levels",
            [NOUGHT, {"points": 2, "description": "a"}, {"points": 2, "description": "b"}],
            f"{LEVELS}: let the points of the levels rise; they are [0, 2, 2]",
        ),
        (
            "briefs.0.criteria.0.points",
            3,
            f"{LEVELS}: let the levels go from 0 to the criterion's 3 points; they go from 0 to 2",
        ),
        (
            "briefs.0.criteria.0.levels.0.points",
            1,
            f"{LEVELS}: let the levels go from 0 to the criterion's 2 points; they go from 1 to 2",
        ),
    ],
)
def test_a_fault_is_told_with_file_place_and_remedy(write: Writer, place: str, value: object, message: str) -> None:
    path = write(replaced(place, value))
    (line,) = refusal(path)
    assert line.startswith(f"{path}: {message}")
    assert everything_stored() == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"title: [unclosed", "is not YAML; mend this place: "),
        (b"title: 2026-02-30", "is not YAML; mend this place: "),
        (b"title: !!python/object/apply:os.getcwd []", "is not YAML; mend this place: "),
        ("title: Gärtner".encode("latin-1"), "cannot be read ("),
        (b"", "profession: write a mapping with the entries briefs, competencies, "),
        (b"- gardener", "profession: write a mapping with the entries briefs, competencies, "),
    ],
)
def test_a_file_that_is_no_pack_at_all_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "gardener.yaml"
    path.write_bytes(content)
    told = "\n".join(refusal(path))
    assert told.startswith(f"{path}: {message}")
    assert told.count(str(path)) == 1


LAUGHS = b"a: &a [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (letter, letter, b", ".join([b"*%c" % (letter - 1)] * 10)) for letter in b"bcdefghi"
)
FEWER = ": write less, or fewer references such as *name; 20000 entries"
ODD_YAML = {
    "references that grow without end": (LAUGHS, FEWER),
    "a reference to itself": (
        b"briefs: &a\n  - *a\n",
        ": write less, or fewer references such as *name; 20000 entries",
    ),
    "a mapping within itself": (b"&a\nbriefs: *a\n", FEWER),
    "a reference to nothing": (b"title: *a\n", "line 1, column 8: found undefined alias"),
    "brackets without end": (b"title: " + b"[" * 50_000, "line 1, column 27: nest less; 20 levels are read"),
    "braces without end": (b"{a: " * 50_000, ": nest less; 20 levels are read"),
    "lists without end": (b"- " * 50_000, ": nest less; 20 levels are read"),
    "an entry twice": (b"title: a\ntagline: b\ntitle: c\n", "line 3, column 1: remove one of the entries"),
    "an entry twice in a list": (b"briefs:\n- slug: a\n  slug: a\n", "line 3, column 3: remove one of the entries"),
    "a name that is a list": (b"? [a]\n: b\n", "line 1, column 3: write a plain name before the colon"),
    "a tag of Python's": (b"title: !!python/name:os.system\n", "line 1, column 8: remove the tag"),
    "a tag of YAML's": (b"title: !!binary aGk=\n", "line 1, column 8: remove the tag"),
    "a tag of nobody's": (b"briefs: !mine []\n", "line 1, column 9: remove the tag"),
    "a merge": (b"<<: {title: a}\ntagline: 2001-01-01\n", "line 2, column 10: put it in quotes if it is a text"),
    "a date": (b"title: 2026-11-26\n", "line 1, column 8: put it in quotes if it is a text, or write a whole number"),
    "a number to the base 60": (b"title: 12:30:45\n", "line 1, column 8: put it in quotes if it is a text"),
    "a number to the base 8": (b"title: 017\n", "line 1, column 8: put it in quotes if it is a text"),
    "a number to the base 16": (b"title: 0xFF\n", "line 1, column 8: put it in quotes if it is a text"),
    "a number with underscores": (b"title: 1_000\n", "line 1, column 8: put it in quotes if it is a text"),
    "a number beyond any row": (b"title: " + b"9" * 5000, "line 1, column 8: put it in quotes if it is a text"),
    "what is no number": (b"title: .nan\n", "line 1, column 8: put it in quotes if it is a text"),
    "a number without end": (b"title: -.inf\n", "line 1, column 8: put it in quotes if it is a text"),
    "a NUL": (b'title: "a\\0b"\n', "line 1, column 8: remove what is no character"),
    "half a character": (b'title: "a\\ud800b"\n', "line 1, column 8: remove what is no character"),
    "a letter beyond all": (b'title: "\\Uffffffff"\n', ""),
    "a raw NUL": (b"title: a\0b\n", "unacceptable character #x0000"),
    "a raw escape": (b"title: a\x1b[31mb\n", "unacceptable character #x001b"),
    "two documents": (b"title: a\n---\ntitle: b\n", "line 2, column 1: but found another document"),
    "a tabulator": (b"briefs:\n\t- a\n", "line 2, column 1: found character '\\t' that cannot start any token"),
}


@pytest.mark.parametrize("name", ODD_YAML)
def test_yaml_that_grows_hides_or_turns_into_something_else_is_refused_with_its_place(
    tmp_path: Path, name: str
) -> None:
    content, message = ODD_YAML[name]
    path = tmp_path / "gardener.yaml"
    path.write_bytes(content)
    (line,) = refusal(path)
    assert line.startswith(f"{path}: is not YAML; mend this place: ")
    assert message in line
    assert len(line) < 400
    assert everything_stored() == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: b\n" * 60_000, "shorten it to 262144 bytes"),
        (("a" + "ä" * 140_000).encode(), "shorten it to 262144 bytes"),
        ("title: Gärtner".encode("utf-16"), "cannot be read ("),
        (b"title: \xed\xa0\x80", "cannot be read ("),
    ],
)
def test_a_file_that_is_no_text_of_a_pack_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "gardener.yaml"
    path.write_bytes(content)
    (line,) = refusal(path)
    assert line.startswith(f"{path}: {message}")


def test_thousands_of_faults_are_told_in_a_few_lines(tmp_path: Path) -> None:
    path = tmp_path / "gardener.yaml"
    path.write_text("".join(f'"{number}\\e[31m": x\n' for number in range(5000)), encoding="utf-8")
    lines = refusal(path)
    assert len(lines) == 21
    assert lines[-1].startswith(f"{path}: mend these first; there are 49")
    assert "\x1b" not in "".join(lines)


def test_a_list_of_thousands_is_refused_before_it_is_looked_at(write: Writer) -> None:
    path = write(gardener(briefs=["x"] * 5000))
    assert refusal(path) == [f"{path}: profession.briefs: write 100 entries at most; it has 5000"]


def test_a_mark_of_the_byte_order_and_an_honest_reference_are_read(write: Writer) -> None:
    shared = brief("roses")["criteria"]
    path = write(gardener(briefs=[brief(slug) | {"criteria": shared} for slug in ("roses", "hedge")]))
    content = path.read_bytes()
    assert b"*id001" in content
    path.write_bytes(b"\xef\xbb\xbf" + content)
    assert load(path) == "gardener: loaded, 2 briefs\n"
    assert Criterion.objects.count() == 2


@pytest.mark.parametrize("name", ["nowhere.yaml", "nowhere"])
def test_a_path_that_is_not_there_is_refused_with_what_to_name(tmp_path: Path, name: str) -> None:
    (line,) = refusal(tmp_path / name)
    assert line.startswith(f"{tmp_path / name}: cannot be read (")
    assert line.endswith("name a UTF-8 file or a folder that holds some")


def test_a_folder_without_packs_is_refused_even_beside_one_that_has_some(write: Writer, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refusal(write(gardener()), empty) == [
        f"{empty}: holds no .yaml file; name a pack or a folder that holds some"
    ]
    assert everything_stored() == []


def test_all_faults_of_all_files_are_told_at_once_and_nothing_is_stored(write: Writer) -> None:
    sound = write(gardener(slug="baker"), "a.yaml")
    several = gardener(title="", tagline=None)
    several["briefs"][1]["criteria"][0]["points"] = 0
    first, second = write(several, "b.yaml"), write(replaced("briefs.0.slug", "Roses!"), "c.yaml")
    assert refusal(sound, first, second) == [
        f"{first}: profession.briefs[2].criteria[1].points: write a whole number from 1 to 100; it is 0",
        f"{first}: profession.title: write a text that is not empty",
        f"{first}: profession.tagline: write a text that is not empty",
        f"{second}: profession.briefs[1].slug: use small letters, digits and single hyphens; it is 'Roses!'",
    ]
    assert everything_stored() == []


def test_a_pack_that_cannot_be_stored_takes_the_others_of_the_same_call_back(write: Writer, alice: User) -> None:
    load(write(gardener()))
    running.open_simulation(user=alice, profession=Profession.objects.get(), language="en")
    refusal(write(gardener(slug="baker"), "a.yaml"), write(gardener(briefs=[brief("hedge")]), "b.yaml"))
    assert not Profession.objects.filter(slug="baker").exists()


def test_folders_and_several_paths_are_loaded_together(write: Writer, tmp_path: Path) -> None:
    folder = tmp_path / "packs"
    folder.mkdir()
    write(gardener(slug="baker"), "packs/baker.yaml")
    write(gardener(slug="cook"), "packs/cook.yaml")
    write(gardener(slug="drover"), "packs/drover.txt")
    lines = load(folder, write(gardener())).splitlines()
    assert lines == ["baker: loaded, 2 briefs", "cook: loaded, 2 briefs", "gardener: loaded, 2 briefs"]
    assert Profession.objects.count() == 3


def test_two_packs_with_one_slug_are_refused_and_the_same_file_twice_is_not(write: Writer) -> None:
    first, second = write(gardener(), "a.yaml"), write(gardener(title="Groundskeeper"), "b.yaml")
    assert refusal(first, second) == [f"{second}: profession.slug: choose another; {first} has 'gardener' too"]
    assert everything_stored() == []
    assert load(first, first) == "gardener: loaded, 2 briefs\n"


def test_the_shipped_folder_named_is_what_no_path_means() -> None:
    load()
    assert all(": unchanged, " in line for line in load(SHIPPED).splitlines())
