"""The answers of chat completions, decoded as far as is needed: event streams, and whole answers sent instead."""

import json
import re
from collections.abc import Mapping
from typing import Any

from generation import finish_reasons
from generation.finish_reasons import Meaning
from generation.upstream.refusals import Refusal, read, says_error

# Where the text of a frame begins. Inside of a JSON string its quotes would be escaped.
_CONTENT = re.compile(r'"content": ?(?=")')
# OpenAI fills frames up so that their length says nothing about the text.
_PADDING = re.compile(r'"obfuscation": ?"[^"\\]*"')
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DONE = "[DONE]"
# What a whole answer may have at most. A text of the longest length is far below it.
MOST_BYTES = 8 * 1024 * 1024

_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # not in the stubs

# What decoding raises for JSON that is broken, too deep, or of another shape than the protocol's.
MALFORMED = (ValueError, TypeError, AttributeError, KeyError, RecursionError)


class ErrorInside(Exception):
    """A provider says in its answer that something went wrong."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Decoder:
    """Decodes the few fields that matter of `chat.completion.chunk` frames, many at a time.

    Almost every frame differs from the one before in nothing but its text. So what stands around the text is compared
    and not decoded again: that costs half, and with hundreds of streams it is what there is most of.
    """

    def __init__(self) -> None:
        self.is_done = False
        self.has_begun = False
        self.finish_reason = ""
        self.native_finish_reason = ""
        self.usage: Mapping[str, Any] = {}
        # How many characters of reasoning there were; they are not kept.
        self.reasoned = 0
        # Lines that are of no event stream: perhaps a page, a sentence, or a whole answer.
        self._strange: list[bytes] = []
        self._strange_bytes = 0
        self._pieces: list[str] = []
        self._any_text = False
        self._incomplete = b""
        self._is_first_line = True
        # A frame may be spread over several lines.
        self._unfinished_frame = ""
        # The first half of a character whose second half may be in the next frame.
        self._half = ""
        # What stands around the text in the last frame that has any.
        self._before, self._behind = "", ""

    @property
    def has_ended_well(self) -> bool:
        """Whether the provider said that the text is whole; nothing behind that can spoil it."""
        if not self.finish_reason:
            return self.is_done and self._any_text
        meaning = finish_reasons.meaning(self.finish_reason, native=self.native_finish_reason)
        return meaning in {Meaning.WHOLE, Meaning.CUT}

    def read(self, data: bytes) -> str:
        """Decode what has arrived and return the text in it, if any.

        Raises:
            ErrorInside: the provider says that something went wrong.
            ValueError, TypeError, AttributeError, KeyError, RecursionError: for what is not of the protocol.
        """
        if b"\r" in data:  # ends lines as well; inside of JSON it is escaped
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines, newline, self._incomplete = (self._incomplete + data).rpartition(b"\n")
        for raw in lines.split(b"\n") if newline else ():
            if raw or self._unfinished_frame:
                self._read_raw(raw)
        return self.decoded()

    def finish(self) -> str:
        """Decode what stands at the end without a line end, and return the text in it. Raises as `read` does."""
        self._read_raw(self._incomplete)
        self._incomplete = b""
        self._read_raw(b"")
        if self._strange and not self.has_begun:
            self._read_whole(b"\n".join(self._strange))
        text = self.decoded() + self._half
        self._half = ""
        return _storable(text)

    def decoded(self) -> str:
        """Return the text that was decoded and not returned yet, also when something was raised behind it."""
        text = self._half + "".join(self._pieces)
        self._pieces.clear()
        self._half = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        self._any_text = self._any_text or bool(text)
        return _storable(text)

    def _read_raw(self, raw: bytes) -> None:
        if raw.startswith(b"data:"):
            try:
                line = raw.decode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                line = raw.decode("utf-8", "replace")
            if not (line.startswith(self._before) and self._is_like_the_last(line)):
                self._read_frame(line)
        elif not raw:
            if self._unfinished_frame:
                data, self._unfinished_frame = self._unfinished_frame.rstrip(), ""
                json.loads(data)  # which says what is wrong with it
        else:
            self._read_strange(raw)

    def _read_strange(self, raw: bytes) -> None:
        """Read a line that begins otherwise: a comment, a field that nobody needs, or no event stream at all."""
        if self._is_first_line and raw.startswith(_BYTE_ORDER_MARK):
            self._is_first_line = False
            self._read_raw(raw.removeprefix(_BYTE_ORDER_MARK))
            return
        self._is_first_line = False
        if raw.lstrip().startswith(b"data:"):
            self._read_raw(raw.lstrip())
            return
        if raw.startswith((b":", b"event:", b"id:", b"retry:")) or self.has_begun:
            return
        self._strange.append(raw)
        self._strange_bytes += len(raw)
        if self._strange_bytes > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes that are no event stream")

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

    def _read_frame(self, line: str) -> None:
        data = self._unfinished_frame + line.removeprefix("data:").strip()
        if data.upper() == _DONE:
            self.is_done = True
            return
        if not data.startswith(("{", "[")):
            return  # nothing, or a word such as "ping"
        try:
            chunk = json.loads(data)
        except ValueError:
            # The frame may go on in the next line; where it does not, its end says what is wrong.
            self._unfinished_frame = data + "\n"
            return
        self._unfinished_frame = ""
        self._read_chunk(chunk, line)

    def _read_whole(self, body: bytes) -> None:
        """Read an answer that came in one piece, though a stream was asked for."""
        text = body.decode("utf-8", "replace")
        if not text.lstrip().startswith("{"):
            raise ErrorInside(read(text))
        self._read_chunk(json.loads(text), "")
        self.is_done = True

    def _read_chunk(self, chunk: object, line: str) -> None:
        if isinstance(chunk, list):
            raise ErrorInside(read(chunk))
        if not isinstance(chunk, dict):
            raise ValueError(f"a frame that is no object: {type(chunk).__name__}")  # noqa: TRY004  # broken input, as broken JSON
        if says_error(chunk):
            raise ErrorInside(read(chunk))
        self.has_begun = True
        self.usage = chunk.get("usage") or self.usage
        choices = chunk.get("choices") or ()
        for choice in choices:
            if choice.get("index") in {0, None}:  # others were not asked for
                self._read_choice(choice)
                break
        else:
            return
        if len(choices) == 1 and not chunk.get("usage"):
            self._remember(line)

    def _read_choice(self, choice: dict[str, Any]) -> None:
        if choice.get("error"):
            raise ErrorInside(read(choice))
        delta = choice.get("delta")
        if delta is None and not self._any_text:
            delta = choice.get("message")
        delta = delta or {}
        self._pieces.append(self._text_of(delta.get("content")))
        for name in ("reasoning_content", "reasoning", "thinking"):
            if isinstance(thought := delta.get(name), str):
                self.reasoned += len(thought)
                break
        self.finish_reason = _reason(choice.get("finish_reason")) or self.finish_reason
        self.native_finish_reason = _reason(choice.get("native_finish_reason")) or self.native_finish_reason

    def _text_of(self, content: object) -> str:
        """Return the text of a delta's content, which may be a list of parts."""
        if content is None or isinstance(content, str):
            return content or ""
        if not isinstance(content, list):
            raise TypeError(f"a text of type {type(content).__name__}")
        texts = []
        for part in content:
            text = part if isinstance(part, str) else part.get("text")
            if isinstance(part, dict) and part.get("type", "text") not in {"text", "output_text"}:
                self.reasoned += len(json.dumps(part))
            elif isinstance(text, str):
                texts.append(text)
        return "".join(texts)

    def _remember(self, line: str) -> None:
        places = list(_CONTENT.finditer(line))
        if len(places) != 1:
            return  # another could change with the text
        start = places[0].end()
        value, end = _scan(line, start)
        if value == self._pieces[-1]:
            self._before, self._behind = line[:start], _PADDING.sub("", line[end:])


def _reason(value: object) -> str:
    """Return a reason; some servers write in every frame that there is none."""
    text = str(value or "")
    return "" if text.lower() in {"null", "none"} else text


def _storable(text: str) -> str:
    """Replace what no database and no UTF-8 stream takes: NUL, and halves of surrogate pairs."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
