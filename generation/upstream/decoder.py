"""The event stream of chat completions, decoded as far as it is needed."""

import json
import re
from typing import Any

from generation.upstream import CompletionEnd
from generation.upstream.faults import UpstreamFault
from web.logs import visible

# Where the text of a frame begins. Inside of a JSON string its quotes would be escaped.
_CONTENT = re.compile(r'"content": ?(?=")')
# OpenAI fills frames up so that their length says nothing about the text.
_PADDING = re.compile(r'"obfuscation": ?"[^"\\]*"')

_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # not in the stubs


class Decoder:
    """Decodes the few fields that matter of `chat.completion.chunk` frames, many at a time.

    Almost every frame differs from the one before in nothing but its text. So what stands around the text is compared
    and not decoded again: that costs half, and with hundreds of streams it is what there is most of.
    """

    def __init__(self) -> None:
        self.any_text = False
        self.is_done = False
        self.finish_reason = ""
        self._model = ""
        self._usage: dict[str, Any] = {}
        self._pieces: list[str] = []
        self._incomplete = b""
        # What stands around the text in the last frame that has any.
        self._before, self._behind = "", ""

    def read(self, data: bytes) -> str:
        """Decode what has arrived and return the text in it, if any.

        Raises:
            UpstreamFault: for an error object.
            ValueError, TypeError, AttributeError, KeyError, RecursionError: for what is not of the protocol.
        """
        lines, newline, self._incomplete = (self._incomplete + data).rpartition(b"\n")
        for raw in lines.split(b"\n") if newline else ():
            if not raw.startswith(b"data:"):
                continue  # a comment, or a field that chat completions do not use
            line = raw.decode("utf-8", "surrogatepass")
            if not (line.startswith(self._before) and self._is_like_the_last(line)):
                self._read_line(line)
        text = _storable("".join(self._pieces))
        self._pieces.clear()
        self.any_text = self.any_text or bool(text)
        return text

    def _is_like_the_last(self, line: str) -> bool:
        """Decode the text of a line that differs in nothing else; return False when it does."""
        if not self._behind:
            return False
        try:
            text, end = _scan(line, len(self._before))
        except (ValueError, StopIteration):
            return False  # broken, or written otherwise
        if _PADDING.sub("", line[end:]) != self._behind or not isinstance(text, str):
            return False
        self._pieces.append(text)
        return True

    def _read_line(self, line: str) -> None:
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            self.is_done = True
            return
        chunk = json.loads(data)
        if not isinstance(chunk, dict):
            raise ValueError(f"a frame that is no object: {type(chunk).__name__}")  # noqa: TRY004  # broken input, as broken JSON
        if error := chunk.get("error"):
            reason = error.get("message", "") if isinstance(error, dict) else str(error)
            raise UpstreamFault("broken_stream", f"error in the stream: {reason}", label="error in the stream")
        self._model = chunk.get("model") or self._model
        self._usage = chunk.get("usage") or self._usage
        choices = chunk.get("choices") or ()
        for choice in choices:
            text = (choice.get("delta") or {}).get("content") or ""
            if not isinstance(text, str):
                raise TypeError(f"a text of type {type(text).__name__}")
            self._pieces.append(text)
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            if len(choices) == 1 and not chunk.get("usage"):
                self._remember(line, text)

    def _remember(self, line: str, text: str) -> None:
        places = list(_CONTENT.finditer(line))
        if len(places) != 1:
            return  # another could change with the text
        start = places[0].end()
        value, end = _scan(line, start)
        if value == text:
            self._before, self._behind = line[:start], _PADDING.sub("", line[end:])

    def ending(self, request_id: str) -> CompletionEnd:
        details = self._usage.get("prompt_tokens_details") or {}
        return CompletionEnd(
            finish_reason=visible(str(self.finish_reason))[:32],
            model=visible(str(self._model))[:120],
            prompt_tokens=_count(self._usage.get("prompt_tokens")),
            completion_tokens=_count(self._usage.get("completion_tokens")),
            cached_tokens=_count(details.get("cached_tokens")),
            request_id=request_id,
        )


def _count(value: object) -> int | None:
    """Return a number of tokens, None for anything a provider may send instead."""
    return value if type(value) is int and 0 <= value < 2**31 else None


def _storable(text: str) -> str:
    """Replace what no database and no UTF-8 stream takes: NUL, and halves of surrogate pairs."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
