"""Open streams and requests for whole texts share one limit, and whoever waits holds no thread."""

import asyncio
import gc

import pytest
from django.http import HttpResponse

from accounts.models import User
from generation import places as places_module
from generation.model_request import Message
from generation.models import Generation
from generation.places import MOST_PLACES_OF_ONE_PERSON, Places
from professions.models import Profession
from tests.conftest import KEY, ServerStarter
from tests.crowd import Crowd
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.test_many_streams import most_threads_of, tokens_of_new_learners
from tests.waiting import run_async
from web.problems import Problem

ALICE = 1


def room(places: Places) -> int:
    """How many more places a person could take."""
    taken = []
    while True:
        try:
            taken.append(places.take(ALICE))
        except Problem:
            break
    for place in taken:
        place.release()
    return len(taken)


def test_a_place_is_free_again_when_its_request_failed() -> None:
    places = Places()
    with pytest.raises(ZeroDivisionError), places.take(ALICE):
        raise ZeroDivisionError
    assert room(places) == MOST_PLACES_OF_ONE_PERSON


def test_a_process_has_so_many_places_for_all_people_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places_module, "MOST_PLACES", 3)
    places = Places()
    taken = [places.take(person) for person in range(3)]
    with pytest.raises(Problem) as refused:
        places.take(99)
    assert (refused.value.status, refused.value.code) == (503, "too_many_streams")
    taken[0].release()
    assert places.take(99)


def test_a_place_stays_taken_for_a_response_until_it_is_released_or_the_response_is_gone() -> None:
    places = Places()
    for is_sent in (True, False):
        with places.take(ALICE) as place:
            response = HttpResponse()
            place.keep_for(response)
        assert room(places) == MOST_PLACES_OF_ONE_PERSON - 1
        if is_sent:
            place.release()
        else:
            del response  # its client left before it was sent
            gc.collect()
        assert room(places) == MOST_PLACES_OF_ONE_PERSON
        place.release()
        assert room(places) == MOST_PLACES_OF_ONE_PERSON, "a place is released once"


def test_of_many_requests_at_the_same_moment_no_more_get_in_than_there_are_places(
    start_own_server: ServerStarter, provider: FakeOpenAI, alice: User, alice_token: str, profession: Profession
) -> None:
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url)
    provider.default = Behaviour(hold_after=1)
    generation = Generation.objects.create(user=alice, source="model", messages=[Message(role="user", content="Hi")])
    urls = [
        f"{server.url}/api/generations/{generation.pk}/stream",
        f"{server.url}/api/tasks/profession/{profession.pk}/current/stream",
        f"{server.url}/api/tasks/profession/{profession.pk}/current",
    ]
    headers = {"Authorization": f"Bearer {alice_token}"}

    async def play() -> None:
        async with Crowd() as crowd:

            async def ask(url: str) -> int:
                async with crowd.session.get(url, headers=headers) as response:
                    if response.status != 200:
                        return response.status
                    await response.read()
                    return 200

            asked = [asyncio.create_task(ask(url)) for url in urls * 15]
            while sum(one.done() for one in asked) < len(asked) - MOST_PLACES_OF_ONE_PERSON:
                await asyncio.sleep(0.02)  # between two looks
            provider.release()
            refused = [503] * (len(asked) - MOST_PLACES_OF_ONE_PERSON)
            assert sorted([await one for one in asked]) == [200] * MOST_PLACES_OF_ONE_PERSON + refused
            assert [await ask(url) for url in urls] == [200] * 3, "the places are free again"

    run_async(play())


def test_a_hundred_who_wait_for_whole_texts_hold_no_threads(
    start_own_server: ServerStarter, provider: FakeOpenAI, profession: Profession
) -> None:
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url)
    provider.default = Behaviour(tokens=("One ", "two."), hold_after=1)
    tokens = tokens_of_new_learners(100)
    url = f"{server.url}/api/tasks/profession/{profession.pk}/current"

    async def play() -> None:
        async with Crowd() as crowd:

            async def ask(token: str) -> str:
                async with crowd.session.get(url, headers={"Authorization": f"Bearer {token}"}) as response:
                    return str((await response.json())["question"])

            asked = [asyncio.create_task(ask(token)) for token in tokens]
            with most_threads_of(server) as threads:
                while len(provider.requests) < len(tokens):
                    await asyncio.sleep(0.05)  # between two looks
                while len(threads) < 100:
                    await asyncio.sleep(0.05)
            assert max(threads[-20:]) < 30
            provider.release()
            assert [await one for one in asked] == ["One two."] * len(tokens)

    run_async(play())
