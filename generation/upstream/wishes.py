"""What a request asks for beside its text, and going without what a provider does not take.

Servers refuse what others insist on: OpenAI's newer models want `max_completion_tokens` and no temperature, most other
servers know `max_tokens` alone, some know neither usage nor formats nor a system role. What one refuses is asked for
once, remembered with the candidate (models/candidate.py), and tried anew after a day.
"""

import re
from collections.abc import Collection, Sequence

from generation.model_request import Message, ModelRequest
from generation.upstream.refusals import Refusal

TEMPERATURE = "temperature"
MAX_TOKENS = "max_tokens"
MAX_COMPLETION_TOKENS = "max_completion_tokens"
STREAM_OPTIONS = "stream_options"
RESPONSE_FORMAT = "response_format"
# A format by schema; where that is not taken, JSON is asked for without one.
JSON_SCHEMA = "json_schema"
SYSTEM_ROLE = "system role"

# How each is called in refusals.
_NAMES = {
    MAX_COMPLETION_TOKENS: r"max_completion_tokens",
    MAX_TOKENS: r"max_tokens",
    TEMPERATURE: r"temperature",
    STREAM_OPTIONS: r"stream[_ ]options|include_usage",
    RESPONSE_FORMAT: r"response[_ ]format|json_schema|json_object|json mode|structured outputs?",
    SYSTEM_ROLE: r"system (role|message|prompt|instruction)s?|role[^.]{0,40}\bsystem\b|developer instruction"
    r"|\bsystem\b[^.]{0,20} role|roles must alternate",
}
_REFUSED = re.compile(
    r"unsupported|not? (be )?(supported|permitted|allowed|enabled|available|accepted)|n't support|unrecogni[sz]ed"
    r"|unknown|unexpected|extra (inputs|fields)|extra_forbidden|invalid|deprecated|only (the )?default"
    r"|must (be|alternate)|is not|cannot|can't|too (large|high)|at most|only when|not implemented|no longer"
)
# It says what to use instead.
_INSTEAD = re.compile(r"use '?\"?`?(max_completion_tokens|max_tokens)'?\"?`? instead|instead of '?max_tokens'?")
_OPENAI = "https://api.openai.com/"


def refused_by(refusal: Refusal, *, status: int) -> str:
    """Return which part of the request a provider does not take, empty where it is something else."""
    if status not in {400, 404, 415, 422, 500, 501}:
        return ""
    for wish, name in _NAMES.items():
        if re.search(rf"^(?:{name})\b", refusal.param.lower()) and wish != SYSTEM_ROLE:
            return wish
    words = refusal.words
    if not _REFUSED.search(words):
        return ""
    if instead := _INSTEAD.search(words):
        return MAX_COMPLETION_TOKENS if instead[1] == MAX_TOKENS else MAX_TOKENS
    return next((wish for wish, name in _NAMES.items() if re.search(name, words)), "")


def parameters(request: ModelRequest, *, base_url: str, refused: Collection[str]) -> dict[str, object]:
    """Return the parameters of a request that this provider takes, as far as is known."""
    values: dict[str, object] = {}
    # OpenAI deprecated `max_tokens` and refuses it for some models; most other servers know nothing else.
    lengths = (
        [MAX_COMPLETION_TOKENS, MAX_TOKENS] if base_url.startswith(_OPENAI) else [MAX_TOKENS, MAX_COMPLETION_TOKENS]
    )
    length = next((name for name in lengths if name not in refused), None)
    if length is not None:
        values[length] = request.max_tokens
    if request.temperature is not None and TEMPERATURE not in refused:
        values[TEMPERATURE] = request.temperature
    if request.response_format is not None and RESPONSE_FORMAT not in refused:
        without_schema = JSON_SCHEMA in refused and asks_for_schema(request)
        values[RESPONSE_FORMAT] = {"type": "json_object"} if without_schema else request.response_format
    if STREAM_OPTIONS not in refused:
        values[STREAM_OPTIONS] = {"include_usage": True}
    return values


def asks_for_schema(request: ModelRequest) -> bool:
    return request.response_format is not None and request.response_format.get("type") == "json_schema"


def narrowed(wish: str, request: ModelRequest, *, refused: Collection[str]) -> str:
    """Return what a refusal speaks against: of a format by schema only the schema, as long as that was asked for."""
    is_schema = wish == RESPONSE_FORMAT and asks_for_schema(request) and JSON_SCHEMA not in refused
    return JSON_SCHEMA if is_schema else wish


def messages(request: ModelRequest, *, refused: Collection[str]) -> Sequence[Message]:
    """Return the conversation; without a system role its words stand before the first of the user."""
    if SYSTEM_ROLE not in refused:
        return request.messages
    system = [message["content"] for message in request.messages if message["role"] == "system"]
    rest = [message for message in request.messages if message["role"] != "system"]
    if not rest or rest[0]["role"] != "user":
        return [Message(role="user", content="\n\n".join(system)), *rest]
    return [Message(role="user", content="\n\n".join([*system, rest[0]["content"]])), *rest[1:]]
