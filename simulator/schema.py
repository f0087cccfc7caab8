"""What the OpenAPI schema cannot find out by itself: how people prove who they are, and the streams."""

from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

Schema = dict[str, Any]


class SessionOrTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # half typed
    target_class = "accounts.tokens.SessionOrToken"
    name = ["session", "token"]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[Schema]:
        session = {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}
        return [session, {"type": "http", "scheme": "bearer"}]

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[Schema]:
        return [{"session": []}, {"token": []}]  # either will do


_EVENTS = """\
Server-Sent Events. Each event is one frame, `id: <cursor>` and `data: {"type": ..., "data": {...}}`; there is no
`event:` line.

| type | data |
| --- | --- |
| `metadata` | the task without its text: `id`, `order`, `total`, `title`, `time_limit_minutes`, … |
| `token` | `token`: text to append |
| `done` | `full_text`, `task_id`, `completed: false`, `generation_id`, `source`, `authored_because`, `seconds_left` |
| `report` | `token`: text of the report to append |
| `completed` | `completed: true`, `simulation_id`, `final_report` |
| `reset` | `generation_id`, `reason`: forget the text so far, it begins again |
| `error` | `code`, `message`, `detail`, `retryable`, `generation_id`; always the last |

Resume with the last cursor, as `Last-Event-ID` or `?after=`: every later event comes once; 204 when there is none.
Leaving does not stop the writing."""

_STREAMS = [
    ("/api/tasks/profession/{profession_id}/current/stream", "get", "The current task, streamed", "integer"),
    (
        "/api/tasks/{task_id}/submit/stream",
        "post",
        "Hand in an answer; the next task or the report, streamed",
        "integer",
    ),
    ("/api/generations/{id}/stream", "get", "Join or resume a generation", "string"),
]


_VARIANTS = """\
Up to four models write a brief side by side, for staff. Server-Sent Events as elsewhere; each carries `variant`, the
number of its column. The default models are those of `VARIANT_MODELS`.

| type | data |
| --- | --- |
| `metadata` | `generation_id`, `model`, `source` |
| `token` | `token`: text to append |
| `reset` | `generation_id`, `reason`: forget the text so far, it begins again |
| `done` | `full_text`, `generation_id`, `model`, `first_token_seconds`, `seconds`, tokens and `cost` |
| `variantError` | `generation_id`, `code`, `message`, `detail`: this column has ended, the others go on |

A column is resumed by itself, at `/api/generations/{id}/stream` with the last cursor of that column."""

_VARIANTS_BODY = {
    "type": "object",
    "required": ["brief_id"],
    "properties": {
        "brief_id": {"type": "integer"},
        "models": {"type": "array", "maxItems": 4, "items": {"type": "string", "minLength": 1, "maxLength": 120}},
    },
}


def _variants() -> Schema:
    return {
        "operationId": "api_variants_stream",
        "summary": "Variants of a brief, streamed side by side",
        "description": _VARIANTS,
        "tags": ["variants"],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _VARIANTS_BODY}}},
        "security": [{"session": []}, {"token": []}],
        "responses": {
            "200": {"description": "the events", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            "400": {"description": "no brief named, or more than four models"},
            "403": {"description": "not staff, or not allowed to change briefs"},
            "404": {"description": "no such brief"},
            "409": {"description": "no key is configured"},
            "429": {"description": "the day's tokens are used up; Retry-After says when to come back"},
        },
    }


def add_streams(result: Schema, **kwargs: object) -> Schema:
    """Describe the streams, which are plain Django views, beside the endpoints that answer whole."""
    for path, method, summary, id_type in _STREAMS:
        name = path[path.index("{") + 1 : path.index("}")]
        operation: Schema = {
            "operationId": path.strip("/").replace("/", "_").replace("{", "").replace("}", ""),
            "summary": summary,
            "description": _EVENTS,
            "tags": [path.split("/")[2]],
            "parameters": [
                {"in": "path", "name": name, "required": True, "schema": {"type": id_type}},
                {"in": "query", "name": "after", "schema": {"type": "string"}, "description": "the last cursor seen"},
            ],
            "security": [{"session": []}, {"token": []}],
            "responses": {
                "200": {"description": "the events", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
                "204": {"description": "the cursor is at the end"},
                "404": {"description": "nothing there, or somebody else's"},
            },
        }
        if method == "post":
            answer = {"$ref": "#/components/schemas/Answer"}
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": answer}}}
            operation["responses"]["409"] = {"description": "answered already, or not the task to answer now"}
        result["paths"].setdefault(path, {})[method] = operation
    result["paths"]["/api/variants/stream"] = {"post": _variants()}
    result["paths"] = dict(sorted(result["paths"].items()))
    return result
