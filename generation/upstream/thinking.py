"""Taking out what a model thinks aloud inside of its text: `<think>…</think>`."""

import re

_NAMES = ("think", "thinking", "thought", "reasoning")
_TAG = re.compile(rf"<(/?)(?:{'|'.join(_NAMES)})>", re.IGNORECASE)
_TAGS = [f"<{slash}{name}>" for name in _NAMES for slash in ("", "/")]
_LONGEST_TAG = max(map(len, _TAGS))


class Thoughts:
    """Takes the thoughts out of a text that comes in pieces.

    A closing tag without an opening one means that everything before it was thought: some servers begin the thinking
    themselves. What was given until then `was_thought`, and is to be withdrawn.

    Args:
        starts_inside: whether this model is known to do so, so that nothing is given before the closing tag.
    """

    def __init__(self, *, starts_inside: bool = False) -> None:
        self.was_thought = False
        self._is_inside = starts_inside
        # What is taken for thought because the model is known to think, in case it does not this time.
        self._assumed: str | None = "" if starts_inside else None
        self._held = ""
        self._has_seen_a_tag = False
        self._has_given = False

    def read(self, text: str) -> str:
        """Return what of a piece is text, with what was held back before it."""
        if not (self._is_inside or self._held or "<" in text):
            return self._given(text)
        self._held += text
        given = ""
        while tag := _TAG.search(self._held):
            before, self._held = self._held[: tag.start()], self._held[tag.end() :]
            given = self._at_tag(given, before, is_closing=bool(tag[1]))
        ready = len(self._held) - _length_of_a_tag_begun(self._held)
        piece, self._held = self._held[:ready], self._held[ready:]
        if not self._is_inside:
            given += piece
        elif self._assumed is not None:
            self._assumed += piece
        return self._given(given)

    def _at_tag(self, given: str, before: str, *, is_closing: bool) -> str:
        """Return what of this piece is text when a tag stands behind it."""
        if self._is_inside:
            self._is_inside = not is_closing
            self._assumed = None
        elif not is_closing:
            given += before
            self._is_inside = True
        elif self._has_seen_a_tag:
            given += before  # a stray one
        else:
            given = ""
            self.was_thought, self._has_given = self._has_given, False
        self._has_seen_a_tag = True
        return given

    def rest(self) -> str:
        """Return what was held back when nothing more comes."""
        held, self._held = self._held, ""
        if not self._is_inside:
            return self._given(held)
        return self._given(self._assumed + held) if self._assumed is not None else ""

    def _given(self, text: str) -> str:
        if not self._has_given:
            text = text.lstrip()  # the blank lines behind a thought
            self._has_given = bool(text)
        return text


def _length_of_a_tag_begun(text: str) -> int:
    """Return how many characters at the end may be the beginning of a tag."""
    start = text.rfind("<", -_LONGEST_TAG)
    if start < 0:
        return 0
    begun = text[start:].lower()
    return len(begun) if any(tag.startswith(begun) for tag in _TAGS) else 0
