"""A context that is too small for what it is sent is noticed, where it cuts prompts off in silence, and said."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client as DjangoClient

from generation.model_request import Message
from generation.models import CandidateHealth
from generation.upstream import context
from generation.upstream.candidates import OPENAI, key_id
from professions.models import Profession
from tests.client import Client
from tests.conftest import KEY, ServerStarter
from tests.raw_provider import DONE, Raw, RawProvider, end_frame, frame, running_provider, text_frame
from tests.test_verify import verify

MODEL = "a-model"
NO_OTHERS = {"OPENAI_MODEL": MODEL, "OPENAI_FALLBACK_MODELS": ",", "VARIANT_MODELS": MODEL}


@pytest.fixture
def server_of_ones_own() -> Iterator[RawProvider]:
    with running_provider() as provider:
        yield provider


def answer(text: str, *, prompt_tokens: int) -> Raw:
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 3, "total_tokens": prompt_tokens + 3}
    return Raw([text_frame(text), end_frame(), frame({"choices": [], "usage": usage}), DONE])


@pytest.mark.parametrize(
    ("said", "tokens"),
    [
        pytest.param({"data": [{"id": MODEL, "meta": {"n_ctx": 8192, "n_ctx_train": 131072}}]}, 8192, id="llama.cpp"),
        pytest.param({"data": [{"id": "/m/a.gguf", "meta": {"n_ctx": 4096}}]}, 4096, id="llama.cpp, another name"),
        pytest.param({"default_generation_settings": {"n_ctx": 2048}}, 2048, id="llama.cpp, a slot"),
        pytest.param({"data": [{"id": MODEL, "max_model_len": 4096}]}, 4096, id="vLLM"),
        pytest.param(
            {"data": [{"id": MODEL, "loaded_context_length": 4096, "max_context_length": 131072}]}, 4096, id="LM Studio"
        ),
        pytest.param({"models": [{"name": f"{MODEL}:latest", "context_length": 4096}]}, 4096, id="Ollama"),
        pytest.param({"data": [{"id": "b", "context_length": 1}, {"id": MODEL, "context_length": 9}]}, 9, id="gateway"),
        pytest.param({"data": [{"id": "b", "context_window": 1}, {"id": "c"}]}, None, id="of others"),
        pytest.param({"data": [{"id": MODEL, "object": "model"}]}, None, id="OpenAI"),
        pytest.param({"data": [{"id": MODEL, "context_length": "many"}]}, None, id="no number"),
        pytest.param({"data": [{"id": MODEL, "context_length": -1}]}, None, id="no number of tokens"),
        pytest.param({"data": [MODEL, None], "models": 3}, None, id="other shapes"),
        pytest.param({"error": "Unexpected endpoint"}, None, id="an error"),
        pytest.param(["data"], None, id="a list"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_what_a_server_tells_is_read(said: object, tokens: int | None) -> None:
    assert context.told(said, MODEL) == tokens


@pytest.mark.parametrize(
    ("characters", "prompt_tokens", "was_cut"),
    [(24_000, 2048, True), (24_000, 4096, False), (24_000, None, False), (3_000, 100, False), (30_000, 4096, True)],
)
def test_a_prompt_with_fewer_tokens_than_it_can_have_was_cut(
    characters: int, prompt_tokens: int | None, was_cut: bool
) -> None:
    messages: list[Message] = [Message(role="user", content="a" * (characters // 2))] * 2
    assert context.was_prompt_cut(messages, prompt_tokens) is was_cut


@pytest.mark.parametrize(
    "tells",
    [
        pytest.param({"/v1/models": {"data": [{"id": MODEL, "max_model_len": 4096}]}}, id="beside its models"),
        pytest.param(
            {
                "/v1/models": {"data": [{"id": MODEL}]},
                "/api/ps": {"models": [{"name": f"{MODEL}:latest", "context_length": 4096}]},
            },
            id="at its root",
        ),
        pytest.param(
            {
                "/v1/models": {"data": [{"id": MODEL, "meta": {"n_ctx": 16384}}]},
                "/props": {"default_generation_settings": {"n_ctx": 4096}},
            },
            id="divided among its slots",
        ),
    ],
)
def test_verify_says_that_a_context_is_too_small_and_what_to_do(
    tmp_path: Path, server_of_ones_own: RawProvider, tells: dict[str, object]
) -> None:
    server_of_ones_own.always(answer('{"ready": true}', prompt_tokens=20))
    server_of_ones_own.tells = tells
    done = verify(tmp_path, OPENAI_BASE_URL=server_of_ones_own.base_url, **NO_OTHERS)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("ok   models")]
    assert line.endswith(
        ", context of 4096 tokens, too small for reports, which need about 11500: their beginning would be cut off. "
        "Give it more (Ollama: OLLAMA_CONTEXT_LENGTH=16384, llama.cpp: -c 16384) or lower LLM_MAX_TOKENS"
    )


def test_verify_says_a_context_that_is_large_enough_without_a_warning(
    tmp_path: Path, server_of_ones_own: RawProvider
) -> None:
    server_of_ones_own.always(answer('{"ready": true}', prompt_tokens=20))
    server_of_ones_own.tells = {"/v1/models": {"data": [{"id": MODEL, "max_model_len": 32768}]}}
    done = verify(tmp_path, OPENAI_BASE_URL=server_of_ones_own.base_url, **NO_OTHERS)
    assert ", context of 32768 tokens\n" in done.stdout


def test_a_prompt_that_was_cut_off_is_said_in_the_log_and_at_the_candidate(
    start_own_server: ServerStarter,
    server_of_ones_own: RawProvider,
    profession: Profession,
    alice_token: str,
    admin_client: DjangoClient,
) -> None:
    profession.system_prompt = "You are writing tasks for a gardener. " * 400
    profession.save()
    server = start_own_server(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=server_of_ones_own.base_url, **NO_OTHERS)
    server_of_ones_own.always(answer("Weed the roses.", prompt_tokens=2048))
    with Client(server.url, token=alice_token) as client:
        assert client.get(f"/api/tasks/profession/{profession.pk}/current").json()["question"] == "Weed the roses."
    assert (
        "[STREAMING] openai key 1 a-model has cut off the beginning of a prompt: context of 2048 tokens" in server.log
    )
    health = CandidateHealth.objects.get(model=MODEL, provider=OPENAI, key_id=key_id(KEY))
    assert (health.context_tokens, health.failures) == (2048, 0)
    assert "too small for reports" in admin_client.get("/admin/generation/candidatehealth/").content.decode()
