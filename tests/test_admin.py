"""The staff pages: they open, stay quick as rows grow, keep logs as they are, and let authors write professions."""

import json

import pytest
from allauth.account.models import EmailAddress
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.db import connection, models
from django.forms import model_to_dict
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext, override_settings
from django.urls import reverse
from django.utils import timezone
from django.utils.html import strip_tags
from knox.models import AuthToken

from accounts.models import User
from accounts.tokens import create_token
from generation.kinds import kind_of
from generation.models import Attempt, CandidateHealth, DailyTokens, Generation, Job, Spending
from professions.models import Brief, Criterion, Profession
from tasks import running
from tasks.models import Simulation, Submission, Task
from tests.conftest import make_profession

pytestmark = pytest.mark.usefixtures("static_files", "db")

HOSTILE = "<script>alert(1)</script>"
REGISTERED: list[type[models.Model]] = sorted(admin.site._registry.keys() - {Spending}, key=str)  # noqa: SLF001  # whatever is registered, a later app's too; spending is one page of sums
WRITTEN_BY_THE_SITE: list[type[models.Model]] = [Generation, Attempt, CandidateHealth, Simulation, Task, Submission]

each_model = pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model.__name__)
each_log = pytest.mark.parametrize("model", WRITTEN_BY_THE_SITE, ids=lambda model: model.__name__)


@pytest.fixture
def staff(db: None) -> User:
    return User.objects.create_superuser("staff")


@pytest.fixture
def as_staff(client: Client, staff: User) -> Client:
    client.force_login(staff)
    return client


def write(generation: Generation, text: str) -> None:
    Generation.objects.filter(pk=generation.pk).update(status=Generation.Status.COMPLETED, text=text, model="gpt-test")
    Attempt.objects.create(
        generation=generation,
        epoch=1,
        number=1,
        candidate="openai key 1 gpt-test",
        model="gpt-test",
        outcome=Attempt.Outcome.COMPLETED,
        detail=HOSTILE,
        seconds=2,
        prompt_tokens=1000,
        completion_tokens=200,
        cost="0.001",
    )
    CandidateHealth.objects.create(
        provider="openai", key_id=generation.pk.hex[:12], model=HOSTILE, fault="provider_error", detail=HOSTILE
    )


def play(user: User, profession: Profession, *, answers: int, question: str = "Mildew?", answer: str = "Cut") -> None:
    """Hand in some answers; the text after the last is not written yet."""
    simulation = running.open_simulation(user=user, profession=profession, language="en")
    for _ in range(answers):
        task = simulation.current_task
        write(task.generation, question)
        running.submit(user=user, task_id=task.pk, answer=answer)
        simulation = running.find(user, pk=simulation.pk)


def grow(start: int, stop: int) -> None:
    """Add one row or more to every table that has a page, for each number."""
    for number in range(start, stop):
        learner = User.objects.create(username=f"learner-{number}", email=f"learner-{number}@example.org")
        Group.objects.create(name=f"class {number}")
        Job.objects.create(name=f"job {number}", due_at=timezone.now())
        EmailAddress.objects.create(user=learner, email=learner.email, primary=True)
        create_token(learner)
        play(learner, make_profession(f"gardener-{number}", briefs=2), answers=2)


def page(model: type[models.Model], name: str, *args: object) -> str:
    of = admin.site.get_model_admin(model).opts
    return reverse(f"admin:{of.app_label}_{of.model_name}_{name}", args=args)


def rows_of(model: type[models.Model]) -> list[models.Model]:
    rows = list(model._default_manager.all())  # noqa: SLF001  # the manager Django's own admin uses
    assert rows, f"grow() adds no {model.__name__}"
    return rows


def queries_for(client: Client, path: str) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    return [query["sql"] for query in captured]


@each_model
def test_list_and_change_pages_open(as_staff: Client, model: type[models.Model]) -> None:
    grow(0, 2)
    listed = as_staff.get(page(model, "changelist"))
    assert listed.status_code == 200
    for row in rows_of(model):
        assert f'href="{page(model, "change", row.pk)}' in listed.text
        assert as_staff.get(page(model, "change", row.pk)).status_code == 200
        assert as_staff.get(page(model, "history", row.pk)).status_code == 200


@each_model
def test_the_add_page_opens_where_adding_is_allowed(as_staff: Client, staff: User, model: type[models.Model]) -> None:
    request = RequestFactory().get("/")
    request.user = staff
    allowed = admin.site.get_model_admin(model).has_add_permission(request)
    assert as_staff.get(page(model, "add")).status_code == (200 if allowed else 403)


@each_model
def test_lists_can_be_searched_and_sorted_by_every_column(as_staff: Client, model: type[models.Model]) -> None:
    grow(0, 2)
    columns = admin.site.get_model_admin(model).list_display
    for number in range(1, len(columns) + 1):
        assert as_staff.get(page(model, "changelist"), {"o": str(-number)}).status_code == 200
    assert as_staff.get(page(model, "changelist"), {"q": "learner"}).status_code == 200


@each_model
def test_a_list_asks_the_database_as_often_for_twelve_rows_as_for_two(
    as_staff: Client, model: type[models.Model]
) -> None:
    grow(0, 2)
    few = queries_for(as_staff, page(model, "changelist"))
    grow(2, 12)
    assert len(queries_for(as_staff, page(model, "changelist"))) == len(few)


@each_model
def test_a_list_reads_no_text_that_it_does_not_show(as_staff: Client, model: type[models.Model]) -> None:
    grow(0, 2)
    tables = [admin.site.get_model_admin(one).opts for one in REGISTERED]
    texts = {
        f'"{table.db_table}"."{field.column}"'
        for table in tables
        if table.app_label in {"accounts", "generation", "professions", "tasks"}
        for field in table.concrete_fields
        if isinstance(field, (models.TextField, models.JSONField))
    }
    assert len(texts) > 10
    own = admin.site.get_model_admin(model).opts.db_table
    lists = [sql for sql in queries_for(as_staff, page(model, "changelist")) if f' FROM "{own}"' in sql]
    assert lists
    for sql in lists:
        read = sql.partition(" FROM ")[0].replace('SUBSTR("tasks_submission"."answer"', "the beginning")
        assert not [column for column in texts if column in read], sql


@pytest.mark.parametrize("model", [Profession, Brief, Simulation], ids=lambda model: model.__name__)
def test_a_page_with_rows_inside_asks_the_database_as_often_for_twelve_as_for_two(
    as_staff: Client, alice: User, model: type[models.Model]
) -> None:
    seen = []
    for rows in (2, 12):
        profession = make_profession(f"gardener-{rows}", briefs=rows)
        play(alice, profession, answers=rows - 1)
        brief = profession.ordered_briefs[0]
        for order in range(2, rows + 1):
            Criterion.objects.create(brief=brief, order=order, slug=f"c-{order}", title="C", points=1, levels=[])
        row = {Profession: profession, Brief: brief}.get(model) or Simulation.objects.get(profession=profession)
        as_staff.get(page(model, "change", row.pk))  # the first look of a process asks for types of content too
        seen.append(len(queries_for(as_staff, page(model, "change", row.pk))))
    assert seen[0] == seen[1]


@each_log
def test_what_the_site_writes_staff_can_only_read(as_staff: Client, model: type[models.Model]) -> None:
    grow(0, 1)
    before = [model_to_dict(row) for row in rows_of(model)]
    pk = rows_of(model)[0].pk
    assert as_staff.get(page(model, "add")).status_code == 403
    for name, args in (("add", []), ("change", [pk]), ("delete", [pk])):
        assert as_staff.post(page(model, name, *args), {"answer": "x", "post": "yes"}).status_code == 403
    as_staff.post(page(model, "changelist"), {"action": "delete_selected", "_selected_action": pk, "post": "yes"})
    assert [model_to_dict(row) for row in rows_of(model)] == before
    shown = as_staff.get(page(model, "change", pk)).text
    assert 'name="_save"' not in shown
    assert page(model, "delete", pk) not in shown


def test_a_token_can_be_revoked_by_staff_but_neither_made_nor_changed(as_staff: Client, alice: User) -> None:
    create_token(alice)
    token = AuthToken.objects.get(user=alice)
    assert as_staff.get(page(AuthToken, "add")).status_code == 403
    assert as_staff.post(page(AuthToken, "add"), {"user": alice.pk}).status_code == 403
    assert as_staff.post(page(AuthToken, "change", token.pk), {"user": alice.pk}).status_code == 403
    as_staff.post(page(AuthToken, "delete", token.pk), {"post": "yes"})
    assert not AuthToken.objects.exists()


@pytest.fixture
def as_author(client: Client) -> Client:
    """Somebody who writes professions and may do nothing else."""
    author = User.objects.create_user("author", is_staff=True)
    author.user_permissions.set(Permission.objects.filter(content_type__app_label="professions"))
    client.force_login(author)
    return client


PROFESSION = {
    "title": "Gardener",
    "slug": "gardener",
    "language": "en",
    "published": "on",
    "position": "0",
    "tagline": "What a gardener does all day.",
    "description": "You are a **gardener**.",
    "system_prompt": "You write tasks.",
    "report_opening": "Three days.",
    "report_closing": "Plant something.",
    "time_rule": "soft",
    "briefs-TOTAL_FORMS": "0",
    "briefs-INITIAL_FORMS": "0",
    "competencies-TOTAL_FORMS": "1",
    "competencies-INITIAL_FORMS": "0",
    "competencies-0-order": "1",
    "competencies-0-title": "Looking",
    "competencies-0-slug": "looking",
    "variables-TOTAL_FORMS": "1",
    "variables-INITIAL_FORMS": "0",
    "variables-0-order": "1",
    "variables-0-title": "Trust",
    "variables-0-slug": "trust",
    "variables-0-start": "60",
    "variables-0-minimum": "0",
    "variables-0-maximum": "100",
    "variables-0-good": "up",
    "variables-0-shown_as": "gauge",
}


def brief_form(profession: Profession, levels: object, **changes: str) -> dict[str, str]:
    return {
        "profession": str(profession.pk),
        "order": "1",
        "title": "Roses",
        "slug": "roses",
        "time_limit_minutes": "10",
        "authored_text": "Amara asks.",
        "expert_answer": "Cut.",
        "description": "Mildew.",
        "criteria-0-most_without_quotation": "0",
        "criteria-TOTAL_FORMS": "1",
        "criteria-INITIAL_FORMS": "0",
        "criteria-0-order": "1",
        "criteria-0-title": "Names the cause",
        "criteria-0-slug": "names-the-cause",
        "criteria-0-points": "2",
        "criteria-0-levels": levels if isinstance(levels, str) else json.dumps(levels),
    } | changes


LEVELS = [{"points": 0, "description": "No cause."}, {"points": 2, "description": "Mildew."}]


def test_an_author_writes_a_profession_that_learners_can_play(as_author: Client, alice: User) -> None:
    assert as_author.post(page(Profession, "add"), PROFESSION).status_code == 302
    profession = Profession.objects.get()
    assert as_author.post(page(Brief, "add"), brief_form(profession, LEVELS)).status_code == 302
    criterion = Criterion.objects.get()
    assert (criterion.brief.title, criterion.title, criterion.levels) == ("Roses", "Names the cause", LEVELS)
    assert "Roses" in as_author.get(page(Profession, "change", profession.pk)).text
    simulation = running.open_simulation(user=alice, profession=profession, language="en")
    assert kind_of(simulation.current_text).fallback(simulation.current_text) == "Amara asks."
    assert as_author.get(page(Simulation, "changelist")).status_code == 403


@pytest.mark.parametrize(
    ("levels", "changes", "message"),
    [
        ([LEVELS[0]], {}, "write a list of at least two levels"),
        (LEVELS, {"criteria-0-points": "101"}, "Ensure this value is less than or equal to 100."),
        ({"0": "No cause."}, {}, "write a list of at least two levels"),
        ([LEVELS[0], {"points": 2}], {}, "write each level with the two entries points and description"),
        ([LEVELS[0], {"points": 2, "description": " "}], {}, "write whole points and a description that is not empty"),
        ([*LEVELS, LEVELS[1]], {}, "let the points of the levels rise; they are [0, 2, 2]"),
        (
            LEVELS,
            {"criteria-0-points": "3"},
            "let the levels go from 0 to the criterion's 3 points; they go from 0 to 2",
        ),
        (LEVELS, {"criteria-0-points": ""}, "This field is required."),
        ("[{points: 0}]", {}, "Enter a valid JSON."),
        (LEVELS, {"time_limit_minutes": "0"}, "Ensure this value is greater than or equal to 1."),
        (LEVELS, {"time_limit_minutes": "241"}, "Ensure this value is less than or equal to 240."),
    ],
)
def test_what_an_author_gets_wrong_is_refused_with_what_to_write(
    as_author: Client, profession: Profession, levels: object, changes: dict[str, str], message: str
) -> None:
    profession.briefs.all().delete()
    refused = as_author.post(page(Brief, "add"), brief_form(profession, levels, **changes))
    assert refused.status_code == 200
    assert message in refused.text.replace("&#x27;", "'")
    assert not Brief.objects.exists()


@each_model
def test_hostile_text_is_inert_on_every_page(as_staff: Client, model: type[models.Model]) -> None:
    grow(0, 1)
    profession = make_profession("hostile", briefs=2)
    Profession.objects.filter(pk=profession.pk).update(title=HOSTILE, description=HOSTILE, system_prompt=HOSTILE)
    profession.briefs.update(title=HOSTILE, description=HOSTILE, authored_text=HOSTILE)
    profession.refresh_from_db()
    mallory = User.objects.create_user("mallory", first_name=HOSTILE)
    Group.objects.create(name=HOSTILE)
    play(mallory, profession, answers=1, question=f"{HOSTILE}\n\n[x](javascript:alert(1))", answer=HOSTILE)
    pages = [as_staff.get(page(model, "changelist")).text]
    pages += [as_staff.get(page(model, "change", row.pk)).text for row in rows_of(model)]
    assert all("<script>alert" not in html and 'href="javascript:' not in html for html in pages)
    if model not in {EmailAddress, AuthToken, Job}:  # show nothing that a learner or an author writes
        assert any("&lt;script&gt;alert(1)" in html for html in pages)


def test_spending_is_summed_up_by_day_profession_model_and_person(as_staff: Client) -> None:
    grow(0, 2)
    play(User.objects.create(username="mallory"), make_profession(HOSTILE[:50], briefs=2), answers=2)
    path = reverse("admin:generation_spending_changelist")
    few = queries_for(as_staff, path)
    listed = as_staff.get(path)
    text = " ".join(strip_tags(listed.text).split())
    assert (
        "Model Texts Attempts Tokens in of these cached Tokens out Known cost (USD) gpt-test 6 6 6,000 0 1,200 0.0060"
        in text
    )
    assert "gardener-0 2 2 2,000 0 400 0.0020" in text
    assert "learner-1 2 2 2,000 0 400 0.0020" in text
    assert "7,200 tokens spent. The site has no daily limit" in text
    assert "Each person may spend 200,000." in text
    assert "<script>alert" not in listed.text
    grow(2, 12)
    assert len(queries_for(as_staff, path)) == len(few)


def test_staff_without_the_permission_see_no_spending(client: Client) -> None:
    client.force_login(User.objects.create_user("helper", is_staff=True))
    assert client.get(reverse("admin:generation_spending_changelist")).status_code == 403


@override_settings(DAILY_TOKEN_BUDGET=10_000)
def test_spending_shows_todays_counts_against_their_limits(as_staff: Client, alice: User) -> None:

    today = timezone.now().date()
    DailyTokens.objects.create(day=today, tokens=9_000)
    DailyTokens.objects.create(day=today, is_of_guests=True, tokens=5_678)
    DailyTokens.objects.create(day=today, user=alice, tokens=1_234)
    text = " ".join(strip_tags(as_staff.get(reverse("admin:generation_spending_changelist")).text).split())
    assert "9,000 of 10,000 tokens are spent or reserved" in text
    assert "Guests: 5,678 of 500,000 tokens." in text
    assert "alice1,234" in text


@each_model
def test_a_learner_is_sent_to_the_log_in(client: Client, alice: User, model: type[models.Model]) -> None:
    client.force_login(alice)
    for path in (page(model, "changelist"), page(model, "add"), reverse("admin:index")):
        response = client.get(path)
        assert (response.status_code, response["Location"]) == (302, f"/admin/login/?next={path}")


def test_staff_log_in_and_out_again(client: Client) -> None:
    User.objects.create_superuser("staff", password="correct horse battery")
    door = client.get("/admin/login/?next=/admin/")
    entered = client.post(door["Location"], {"login": "staff", "password": "correct horse battery"})
    assert (entered.status_code, entered["Location"]) == (302, "/admin/")
    assert client.get("/admin/").status_code == 200
    client.post("/admin/logout/")
    assert client.get("/admin/").status_code == 302


def test_a_learners_password_does_not_open_the_admin(client: Client, alice: User) -> None:
    door = client.get("/admin/login/")
    refused = client.post(door["Location"], {"login": "alice", "password": "correct horse battery"}, follow=True)
    assert refused.status_code == 403
    assert "not one of the staff" in refused.text


def test_a_person_can_be_deleted_with_everything_they_did(as_staff: Client) -> None:
    grow(0, 1)
    learner = User.objects.get(username="learner-0")
    deleted = as_staff.post(page(User, "delete", learner.pk), {"post": "yes"})
    assert deleted.status_code == 302, deleted.content.decode()
    assert not User.objects.filter(pk=learner.pk).exists()
    for model in set(WRITTEN_BY_THE_SITE) - {CandidateHealth}:
        assert not model._default_manager.exists()  # noqa: SLF001  # the manager Django's own admin uses
