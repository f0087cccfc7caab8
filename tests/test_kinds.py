"""What a text is for: it is asked how to ask a model at the claim, and told of the end, whoever ends the text."""

from collections.abc import Callable, Iterator

import pytest
from django.core.checks import run_checks
from django.utils import timezone
from pytest_django import Settings

from accounts.models import RateCount, User
from generation import ending, producer
from generation.kinds import kind_of
from generation.models import LEASE, MOST_TAKEOVERS, Generation
from professions.models import Profession
from professions.variants import VARIANT
from tasks import running
from tasks.models import Simulation
from tests.client import Client, text_of, types_of
from tests.conftest import KEY, Server
from tests.fake_openai import Behaviour, FakeOpenAI, Refusal
from tests.kinds import KINDS, UnluckyKind
from tests.viewers import write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def kinds(settings: Settings) -> None:
    settings.GENERATION_KINDS = {**settings.GENERATION_KINDS, **KINDS}


@pytest.fixture
def provider(settings: Settings) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(default=Behaviour(text="A model's.")) as fake:
        settings.OPENAI_API_KEYS = [KEY]
        settings.OPENAI_BASE_URL = fake.base_url
        settings.OPENAI_MODEL = "first"
        settings.OPENAI_FALLBACK_MODELS = ["second", "third"]
        yield fake


def new(user: User, kind: str, *, by_model: bool = False, subject: str = "short") -> Generation:
    source = Generation.Source.MODEL if by_model else Generation.Source.AUTHORED
    return Generation.objects.create(user=user, kind=kind, subject=subject, source=source)


class TestTheRequest:
    def test_holds_what_is_known_when_the_text_is_claimed(
        self, server: Server, profession: Profession, provider: FakeOpenAI, alice: User
    ) -> None:
        generation = running.open_simulation(user=alice, profession=profession, language="en").current_text
        assert (generation.messages, generation.options) == ([], None)
        profession.briefs.update(description="PLAN: the roses have mildew no more.")
        assert write(generation).text == "A model's."
        assert "the roses have mildew no more" in provider.requests[0].prompt
        assert generation.messages == provider.requests[0].messages

    def test_is_the_same_for_whoever_takes_the_text_over(self, provider: FakeOpenAI, alice: User) -> None:
        generation = new(alice, "choosy", by_model=True, subject="as it was")
        kind = kind_of(generation)
        Generation.objects.claim(generation.pk, owner="dead", request=kind.request(generation))
        Generation.objects.update(subject="as it is", lease_expires_at=timezone.now() - LEASE)
        write(generation)
        assert [message["content"] for message in provider.requests[0].messages] == ["as it was"]

    def test_is_composed_anew_when_the_text_is_to_be_written_again(self, provider: FakeOpenAI, alice: User) -> None:
        provider.default = Behaviour(status=Refusal.CONTENT_FILTER)
        generation = write(new(alice, "choosy", by_model=True, subject=""))
        assert generation.status == "failed"
        Generation.objects.update(subject="as it is")
        assert Generation.objects.restart(generation.pk)
        provider.default = Behaviour(text="A model's.")
        assert write(generation).status == "completed"
        assert provider.requests[-1].messages[-1]["content"] == "as it is"

    def test_says_how_a_model_is_asked_and_who_may_not_write(self, provider: FakeOpenAI, alice: User) -> None:
        write(new(alice, "choosy", by_model=True))
        (request,) = provider.requests
        assert request.model == "second"
        assert request.body["response_format"] == {"type": "json_object"}
        assert request.body["max_tokens"] == 77
        assert "temperature" not in request.body

    def test_is_as_the_settings_have_it_where_its_kind_says_nothing(
        self, provider: FakeOpenAI, alice: User, settings: Settings
    ) -> None:
        settings.LLM_MAX_TOKENS, settings.LLM_TEMPERATURE = 900, 0.2
        write(new(alice, "fixed", by_model=True))
        assert (provider.requests[0].body["max_tokens"], provider.requests[0].body["temperature"]) == (900, 0.2)

    def test_that_cannot_be_composed_ends_the_text(
        self, provider: FakeOpenAI, alice: User, caplog: pytest.LogCaptureFixture
    ) -> None:
        generation = write(new(alice, "mistaken", by_model=True))
        assert (generation.status, generation.fault) == ("failed", "interrupted")
        assert "ZeroDivisionError" in caplog.text
        assert not provider.requests


def test_what_a_kind_shows_instead_is_shown_where_no_model_writes(provider: FakeOpenAI, alice: User) -> None:
    provider.default = Behaviour(status=Refusal.SERVER_ERROR)
    generation = write(new(alice, "fixed", by_model=True))
    assert (generation.status, generation.source, generation.text) == ("completed", "authored", "One two three.")


def _completed(generation: Generation) -> None:
    write(generation)


def _failed(generation: Generation) -> None:
    Generation.objects.update(source=Generation.Source.MODEL, subject="")
    write(generation)


def _cancelled_before_its_beginning(generation: Generation) -> None:
    ending.cancel(generation.pk)


def _cancelled_while_its_producer_was_dead(generation: Generation) -> None:
    Generation.objects.claim(generation.pk, owner="dead")
    Generation.objects.update(lease_expires_at=timezone.now() - LEASE)
    ending.cancel(generation.pk)


def _cancelled_when_its_producer_died(generation: Generation) -> None:
    Generation.objects.claim(generation.pk, owner="dead")
    ending.cancel(generation.pk)
    Generation.objects.update(lease_expires_at=timezone.now() - LEASE)
    ending.end_orphans()


def _worn_out(generation: Generation) -> None:
    Generation.objects.claim(generation.pk, owner="dead")
    Generation.objects.update(lease_expires_at=timezone.now() - LEASE, takeovers=MOST_TAKEOVERS)
    ending.end_orphans()


def _cancelled_when_its_process_left(generation: Generation) -> None:
    Generation.objects.claim(generation.pk, owner="leaving")
    ending.cancel(generation.pk)
    ending.release(owner="leaving")


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (_completed, "completed"),
        (_failed, "failed"),
        (_cancelled_before_its_beginning, "cancelled"),
        (_cancelled_while_its_producer_was_dead, "cancelled"),
        (_cancelled_when_its_producer_died, "cancelled"),
        (_worn_out, "failed"),
        (_cancelled_when_its_process_left, "cancelled"),
    ],
)
def test_a_kind_is_told_of_every_end_once_in_the_transaction_that_stores_it(
    alice: User, end: Callable[[Generation], None], status: str
) -> None:
    generation = new(alice, "counted")
    end(generation)
    assert Generation.objects.get().status == status
    assert [row.key for row in RateCount.objects.all()] == [f"{generation.pk} {status}"]
    ending.cancel(generation.pk)
    ending.end_orphans()
    assert RateCount.objects.count() == 1


def test_a_text_that_goes_on_elsewhere_has_not_ended(alice: User) -> None:
    generation = new(alice, "counted")
    Generation.objects.claim(generation.pk, owner="leaving")
    assert ending.release(owner="leaving") == 1
    assert not RateCount.objects.exists()


def test_a_mistake_in_what_follows_from_a_text_loses_neither_text_nor_halves(
    alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    generation = write(new(alice, "mistaken"))
    assert (generation.status, generation.text) == ("completed", "One two three.")
    assert not RateCount.objects.exists()
    assert f"what follows from the end was not stored generation={generation.pk}" in caplog.messages


def test_an_end_is_stored_again_with_what_follows_when_the_database_was_busy(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "SAVE_AGAIN_AFTER_SECONDS", (0.01,))
    monkeypatch.setattr(UnluckyKind, "times", [])
    assert write(new(alice, "unlucky")).status == "completed"
    assert UnluckyKind.times == ["told", "told"]


def test_handing_in_asks_for_nothing_else_than_rows(profession: Profession, alice: User) -> None:
    simulation = running.open_simulation(user=alice, profession=profession, language="en")
    Generation.objects.update(status="completed", text="A question.")
    running.submit(user=alice, task_id=simulation.current_task.pk, answer="Mulch.")
    following = Simulation.objects.get().current_text
    assert (following.messages, following.options, following.text) == ([], None, "")


def test_a_text_of_no_known_kind_is_plain(server: Server, alice: User, alice_token: str) -> None:
    generation = new(alice, "of an earlier version", by_model=True)
    Generation.objects.update(messages=[{"role": "user", "content": "Write."}])
    with Client(server.url, token=alice_token) as client:
        events = client.events(f"/api/generations/{generation.pk}/stream")
    assert types_of(events)[0] == "metadata"
    assert types_of(events)[-1] == "done"
    assert text_of(events) == events[-1]["data"]["full_text"]


def test_a_kind_that_is_not_there_fails_the_start(settings: Settings) -> None:
    for path in ("tasks.kinds.NoKind", "nowhere.Kind", "tasks.models.Task"):
        settings.GENERATION_KINDS = {"broken": path}
        assert "simulator.E011" in [message.id for message in run_checks()]
    settings.GENERATION_KINDS = KINDS
    assert "simulator.E011" not in [message.id for message in run_checks()]


def test_every_kind_that_rows_are_made_of_is_in_the_settings(settings: Settings) -> None:
    assert {running.TASK, running.REPORT, VARIANT} < set(settings.GENERATION_KINDS)
