"""What the OpenAPI schema cannot find out by itself: how people prove who they are, and the streams."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from web.fields import LARGEST_ID

Schema = dict[str, Any]


class SessionOrTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # half typed
    target_class = "accounts.tokens.SessionOrToken"
    name = ["session", "token"]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[Schema]:
        session = {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}
        return [session, {"type": "http", "scheme": "bearer"}]

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[Schema]:
        return [{"session": []}, {"token": []}]  # either will do


# What is answered when a request is refused: by status, what it means and which header comes with it.
_REFUSALS = {
    "400": ("What was sent cannot be used; `fields` names what where it can.", ""),
    "401": ("Nobody is logged in, or the token is not valid.", "WWW-Authenticate"),
    "403": ("The CSRF token is missing, another site asks, or this is for staff.", ""),
    "404": ("There is nothing here, or it belongs to somebody else.", ""),
    "409": ("The right person at the wrong step, such as a task answered before.", ""),
    "413": ("The answer or the body is too large.", ""),
    "415": ("The body is not unpacked JSON in UTF-8.", ""),
    "429": ("A limit is reached; `Retry-After` says when to come back.", "Retry-After"),
    "502": ("The language model failed; the code says how.", ""),
    "503": ("The server has as much to do as it can; `Retry-After` says when to come back.", "Retry-After"),
}
_HEADERS: dict[str, Schema] = {
    "WWW-Authenticate": {"required": True, "schema": {"type": "string"}},
    "Retry-After": {"required": True, "description": "in seconds", "schema": {"type": "integer", "minimum": 0}},
}

# Every operation with what it refuses. An operation that is missing here fails the schema.
_REFUSED_BY = {
    "professions_list": "401",
    "professions_retrieve": "401 404",
    "simulations_list": "401",
    "simulations_create": "400 401 403 404 409 413 415 429",
    "simulations_retrieve": "401 404",
    "simulations_rewrite_create": "401 403 404 409 413",
    "tasks_profession_current_retrieve": "401 403 404 409 429 502 503",
    "tasks_submit_create": "400 401 403 404 409 413 415 429 502 503",
    "tasks_assessment_retrieve": "401 403 404 409 503",
    "tasks_assessment_update": "400 401 403 404 409 413 415",
    "tasks_assessment_retry_create": "401 403 404 409 413",
    "tasks_review_create": "400 401 403 404 409 413 415",
    "generations_retrieve": "401 404",
    "generations_cancel_create": "401 403 404 413",
    "api_tasks_profession_profession_id_current_stream": "400 401 403 404 409 429 503",
    "api_tasks_task_id_submit_stream": "400 401 403 404 409 413 415 429 503",
    "api_tasks_task_id_assessment_stream": "400 401 403 404 409 429 503",
    "api_generations_id_stream": "400 401 403 404 429 503",
    "api_variants_stream": "400 401 403 404 409 413 415 429 503",
}

_ID: Schema = {"type": "integer", "minimum": 0, "maximum": LARGEST_ID}
_TYPES: dict[str, Schema] = {
    "text": {"type": "string"},
    "text?": {"type": ["string", "null"]},
    "number": {"type": "integer"},
    "number?": {"type": ["integer", "null"]},
    "seconds?": {"type": ["number", "null"]},
    "truth": {"type": "boolean"},
    "uuid": {"type": "string", "format": "uuid"},
    "uuid?": {"type": ["string", "null"], "format": "uuid"},
    "list": {"type": "array", "items": {"type": "object"}},
    "object": {"type": "object"},
    "sentences": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(always: str, sometimes: str = "") -> Schema:
    """Return the schema of an object, its properties written as `name:type`."""
    pairs = [one.split(":") for one in f"{always} {sometimes}".split()]
    return {
        "type": "object",
        "required": [one.split(":")[0] for one in always.split()],
        "properties": {name: _TYPES[kind] for name, kind in pairs},
    }


# For programs; for people in English; for people in the language of the request; by field, only for bad input.
_PROBLEM = _object("code:text detail:text message:text", "fields:sentences")

# Each type of event: what it means, and its data.
_EVENTS: dict[str, tuple[str, Schema]] = {
    "metadata": (
        "what is being written, without its text; first",
        _object(
            "",
            "generation_id:uuid? source:text task_id:number status:text most:number criteria:list "
            "id:number order:number total:number title:text profession_id:number simulation_id:number "
            "time_limit_minutes:number seconds_left:number language:text state:list model:text",
        ),
    ),
    "token": ("text to append", _object("token:text")),
    "done": (
        "the text is whole; last",
        _object(
            "full_text:text completed:truth generation_id:uuid",
            "task_id:number source:text authored_because:text was_cut:truth seconds_left:number model:text "
            "first_token_seconds:seconds? seconds:seconds? prompt_tokens:number? completion_tokens:number? cost:text?",
        ),
    ),
    "report": ("text of the report to append", _object("token:text")),
    "completed": ("the report is whole, and the simulation at its end; last", _ref("Finished")),
    "held": (
        "the answer is stored, and what follows is begun when its marks are there; fetch it when the learner goes on; "
        "last",
        _object("generation_id:uuid", "task_id:number simulation_id:number"),
    ),
    "mark": ("a criterion that is marked", _ref("Mark")),
    "assessed": ("the assessment, with its marks or why there are none; last", _ref("Assessment")),
    "reset": ("forget the text so far, it begins again", _object("generation_id:uuid reason:text")),
    "reconnect": ("the server is going away; come back with the cursor; last", _object("generation_id:uuid")),
    "error": (
        "there will be no text; last",
        _object("code:text message:text detail:text retryable:truth generation_id:uuid"),
    ),
    "variantError": (
        "this column has ended, the others go on",
        _object("code:text message:text detail:text generation_id:uuid"),
    ),
}

_STREAM = """\
Server-Sent Events. Each event is one frame, `id: <cursor>` and `data: {"type": ..., "data": {...}}`; there is no
`event:` line.

"""
_RESUMED = """\

Resume with the last cursor, as `Last-Event-ID` or `?after=`: every later event comes once; 204 when there is none.
Leaving does not stop the writing."""
_SIDE_BY_SIDE = """\

Up to four models write a brief side by side, for staff; the default ones are those of `VARIANT_MODELS`. The data of
each event also has `variant`, the number of its column. A column is resumed by itself, at
`/api/generations/{id}/stream` with its last cursor."""

_CURSOR = "[0-9a-f]{12}-[0-9]{1,9}-[0-9]{1,9}"
_PLACES: list[Schema] = [
    {
        "in": place,
        "name": name,
        "description": "the last cursor seen",
        "schema": {"type": "string", "pattern": f"^({_CURSOR})?$"},
    }
    for place, name in (("header", "Last-Event-ID"), ("query", "after"))
]


@dataclass(frozen=True, slots=True)
class _Stream:
    path: str
    method: str
    operation_id: str
    summary: str
    events: str
    body: str = ""
    resumed: bool = True


_STREAMS = [
    _Stream(
        "/api/tasks/profession/{profession_id}/current/stream",
        "get",
        "api_tasks_profession_profession_id_current_stream",
        "The current task or the report, streamed",
        "metadata token done report completed reset reconnect error",
    ),
    _Stream(
        "/api/tasks/{task_id}/submit/stream",
        "post",
        "api_tasks_task_id_submit_stream",
        "Hand in an answer; the next task or the report, streamed",
        "metadata token done report completed held reset reconnect error",
        body="Answer",
    ),
    _Stream(
        "/api/tasks/{task_id}/assessment/stream",
        "get",
        "api_tasks_task_id_assessment_stream",
        "The marks of an answer, each as it comes",
        "metadata mark assessed reset reconnect error",
    ),
    _Stream(
        "/api/generations/{id}/stream",
        "get",
        "api_generations_id_stream",
        "Join or resume a generation",
        "metadata token done report completed mark assessed reset reconnect error",
    ),
    _Stream(
        "/api/variants/stream",
        "post",
        "api_variants_stream",
        "Variants of a brief, streamed side by side",
        "metadata token done reset reconnect variantError",
        body="Variants",
        resumed=False,
    ),
]
_VARIANTS_BODY = {
    "type": "object",
    "required": ["brief_id"],
    "properties": {
        "brief_id": _ID,
        "models": {"type": "array", "maxItems": 4, "items": {"type": "string", "minLength": 1, "maxLength": 120}},
    },
}


def _frame(names: Sequence[str], *, in_columns: bool) -> Schema:
    """Return the schema of one frame with an event of one of these types."""
    events = [
        {
            "type": "object",
            "required": ["type", "data"],
            "properties": {"type": {"const": name}, "data": _data(name, in_columns=in_columns)},
        }
        for name in names
    ]
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": {"oneOf": events}}
    return {
        "type": "object",
        "required": ["id", "data"],
        "properties": {"id": {"type": "string", "pattern": f"^{_CURSOR}$"}, "data": data},
    }


def _data(name: str, *, in_columns: bool) -> Schema:
    column = {"type": "object", "required": ["variant"], "properties": {"variant": _TYPES["number"]}}
    return {"allOf": [_ref(_event_component(name)), column]} if in_columns else _ref(_event_component(name))


def _operation(stream: _Stream) -> Schema:
    names = stream.events.split()
    table = "| type | meaning |\n| --- | --- |\n" + "".join(f"| `{name}` | {_EVENTS[name][0]} |\n" for name in names)
    frame = _frame(names, in_columns=not stream.resumed)
    operation: Schema = {
        "operationId": stream.operation_id,
        "summary": stream.summary,
        "description": _STREAM + table + (_RESUMED if stream.resumed else _SIDE_BY_SIDE),
        "tags": [stream.path.split("/")[2]],
        "parameters": [
            {"in": "path", "name": name, "required": True, "schema": _TYPES["uuid"] if name == "id" else _ID}
            for name in re.findall(r"{(\w+)}", stream.path)
        ],
        "security": [{"session": []}, {"token": []}],
        "responses": {"200": {"description": "the events", "content": {"text/event-stream": {"schema": frame}}}},
    }
    if stream.resumed:
        operation["parameters"] += _PLACES
        operation["responses"]["204"] = {"description": "the cursor is at the end"}
    if stream.body:
        content = {"application/json": {"schema": _ref(stream.body)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _event_component(name: str) -> str:
    return f"{name[0].upper()}{name[1:]}Event"


def _add_refusals(operation: Schema) -> None:
    for status in _REFUSED_BY[operation["operationId"]].split():
        meaning, header = _REFUSALS[status]
        response: Schema = {
            "description": meaning,
            "content": {"application/json": {"schema": _ref("Problem")}},
        }
        if header:
            response["headers"] = {header: _HEADERS[header]}
        operation["responses"][status] = response


def complete(result: Schema, **kwargs: object) -> Schema:
    """Add what drf-spectacular cannot see: the streams, which are plain Django views, and every refusal."""
    schemas = result["components"]["schemas"]
    schemas |= {"Problem": _PROBLEM, "Variants": _VARIANTS_BODY}
    schemas |= {_event_component(name): data for name, (_, data) in _EVENTS.items()}
    for stream in _STREAMS:
        result["paths"].setdefault(stream.path, {})[stream.method] = _operation(stream)
    for path in result["paths"].values():
        for operation in path.values():
            _add_refusals(operation)
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["schema"]["type"] == "integer":
                    parameter["schema"] = _ID
    result["paths"] = dict(sorted(result["paths"].items()))
    result["components"]["schemas"] = dict(sorted(schemas.items()))
    return result
