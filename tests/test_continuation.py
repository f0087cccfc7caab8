"""A text that was cut at its longest is brought to its end, once, or shown as it is; never spliced at a guess."""

import pytest
from django.test import Client as DjangoClient

from accounts.models import User
from generation import continuation
from generation.model_request import Message, ModelRequest
from generation.models import Attempt, CandidateHealth, Generation
from professions.models import Profession
from tests.client import Client, text_of, types_of
from tests.conftest import Server
from tests.fake_openai import MODELS, Behaviour, Ending, FakeOpenAI, Refusal, split_into_tokens

BEGINNING = (
    "Wednesday, 10:40. Lorna catches you by the sink and says that Mrs Nowak is not right, that she asked when the "
    "tram comes, and that her hands are cool. **Write the call to the doctor word for wo"
)
LAST_WORDS = (
    "not right, that she asked when the tram comes, and that her hands are cool. "
    "**Write the call to the doctor word for wo"
)
REST = "rd, and say what you do while you wait.**"


def cut(text: str = BEGINNING) -> Behaviour:
    return Behaviour(text=text, ending=Ending.LENGTH, after_tokens=len(split_into_tokens(text)))


def current(profession: Profession) -> str:
    return f"/api/tasks/profession/{profession.pk}/current/stream"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(LAST_WORDS + REST, id="as asked"),
        pytest.param("\n\n" + LAST_WORDS.replace(" ", "\n", 2) + REST, id="other white space"),
        pytest.param(BEGINNING[60:] + REST, id="begins earlier"),
        pytest.param(BEGINNING + REST, id="the whole again, and its rest"),
    ],
)
def test_what_begins_with_the_last_words_joins(answer: str) -> None:
    assert continuation.rest_of(BEGINNING, answer) == REST


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(REST, id="without the last words"),
        pytest.param("Sure! Here it is: " + LAST_WORDS + REST, id="an introduction"),
        pytest.param("Another scene altogether. " + LAST_WORDS + REST, id="another beginning"),
        pytest.param(LAST_WORDS, id="nothing more"),
        pytest.param(LAST_WORDS[:-10] + REST, id="not all of the last words"),
        pytest.param("", id="nothing"),
    ],
)
def test_what_does_not_join_is_not_kept(answer: str) -> None:
    assert continuation.rest_of(BEGINNING, answer) == ""


@pytest.mark.parametrize(
    ("text", "answer", "rest"),
    [
        ("Роза упала на лапу", "упала на лапу Азора.", ""),
        ("Роза упала на лапу", "Роза упала на лапу Азора.", " Азора."),
        ("كتبت الممرضة ثم", "كتبت الممرضة ثم ذهبت.", " ذهبت."),
        ("One line.\n\n", "One line.\n\nAnd another.", "And another."),
        ("(a|b) [c] *d* ", "(a|b) [c] *d* e?", "e?"),
        ("\n \n", "anything", ""),
    ],
)
def test_short_texts_other_scripts_and_signs_join_as_well(text: str, answer: str, rest: str) -> None:
    assert continuation.rest_of(text, answer) == rest


def test_a_model_is_asked_with_all_it_was_told_and_what_it_wrote() -> None:
    first: list[Message] = [Message(role="user", content="a task")]
    request = continuation.request_for_rest(ModelRequest(first, max_tokens=7), BEGINNING)
    assert [message["role"] for message in request.messages] == ["user", "assistant", "user"]
    assert request.messages[0] is first[0]
    assert request.messages[1]["content"] == BEGINNING
    assert request.messages[2]["content"].endswith(LAST_WORDS)
    assert request.max_tokens == 7


def test_a_text_that_was_cut_is_brought_to_its_end(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.script(cut(), Behaviour(text=LAST_WORDS + REST))
    events = as_alice.events(current(profession))
    assert text_of(events) == events[-1]["data"]["full_text"] == BEGINNING + REST
    assert "reset" not in types_of(events)
    assert not events[-1]["data"]["was_cut"]
    stored = Generation.objects.get()
    assert (stored.text, stored.finish_reason) == (BEGINNING + REST, "stop")
    assert [request.model for request in provider.requests] == [MODELS[0], MODELS[0]]
    assert provider.requests[1].messages[-2] == {"role": "assistant", "content": BEGINNING}
    paid = [attempt.tokens for attempt in Attempt.objects.order_by("number")]
    assert len(paid) == 2
    assert (stored.prompt_tokens or 0) + (stored.completion_tokens or 0) == sum(paid), "both requests are paid"


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(Behaviour(text="Another text altogether."), id="does not join"),
        pytest.param(cut(LAST_WORDS + REST), id="is cut itself"),
        pytest.param(Behaviour(status=Refusal.SERVER_ERROR), id="fails"),
        pytest.param(Behaviour(text=LAST_WORDS + REST, ending=Ending.RESET, after_tokens=20), id="breaks off"),
    ],
)
def test_a_text_that_cannot_be_brought_to_its_end_is_shown_as_it_is(
    as_alice: Client, alice: User, profession: Profession, provider: FakeOpenAI, second: Behaviour
) -> None:
    provider.script(cut(), second)
    events = as_alice.events(current(profession))
    assert text_of(events) == events[-1]["data"]["full_text"] == BEGINNING
    assert "reset" not in types_of(events)
    assert events[-1]["data"]["was_cut"]
    assert Generation.objects.get().finish_reason == "length"
    assert len(provider.requests) == Attempt.objects.count() == 2
    again = as_alice.get(f"/api/tasks/profession/{profession.pk}/current").json()
    assert (again["question"], again["was_cut"]) == (BEGINNING, True)
    pages = DjangoClient()
    pages.force_login(alice)
    page = pages.get(f"/simulations/{again['simulation_id']}").content.decode()
    assert "longer than allowed, so its last words are missing" in page


def test_a_fault_of_the_second_request_is_known_to_the_next_learner(
    as_alice: Client, profession: Profession, provider: FakeOpenAI
) -> None:
    provider.script(cut(), Behaviour(status=Refusal.SERVER_ERROR))
    as_alice.events(current(profession))
    assert CandidateHealth.objects.exclude(failures=0).get().fault == "provider_error"


def test_the_log_says_that_a_text_was_cut(
    as_alice: Client, profession: Profession, provider: FakeOpenAI, server: Server
) -> None:
    provider.script(cut(), Behaviour(text="no"))
    as_alice.events(current(profession))
    assert "[STREAMING] the text was cut at its longest, 1500 tokens generation=" in server.log
