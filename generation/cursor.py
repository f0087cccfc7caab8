"""A position in the events of a generation.

A cursor is `{epoch}-{seq}`: which writing of the text, and how many characters (code points) of it have been shown.
The event that ends a text stands one behind its last character. So a cursor can be resumed from the stored row
alone, whatever became of the event log, and two events never share one.
"""

import re
import uuid
from collections.abc import Callable
from typing import NamedTuple

from django.utils.translation import gettext_lazy as _

from web.problems import Problem

_FORM = re.compile(r"([0-9a-f]{12})-([0-9]{1,9})-([0-9]{1,9})")


class Cursor(NamedTuple):
    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


START = Cursor(0, 0)


def event_namer(generation_id: uuid.UUID) -> Callable[[Cursor], str]:
    """Return what turns the positions in a generation into what a client sees of them.

    That says which generation it is of: addresses show one after the other.
    """
    name = _name(generation_id)
    return lambda cursor: f"{name}-{cursor.epoch}-{cursor.seq}"


def event_id(generation_id: uuid.UUID, cursor: Cursor) -> str:
    return event_namer(generation_id)(cursor)


def parse_event_id(value: str, generation_id: uuid.UUID) -> Cursor | None:
    """Read what a client sends back as `Last-Event-ID` or `?after=`; None for a position in another generation.

    Raises:
        Problem: 400 when it is no position of ours.
    """
    return parse_named(value, _name(generation_id))


def parse_named(value: str, name: str) -> Cursor | None:
    """Read a position in the events of something with a name of 12 digits, as `parse_event_id` does."""
    match = _FORM.fullmatch(value)
    if match is None:
        raise Problem(_("The cursor cannot be read. Send the id of an event unchanged, or none."), code="bad_cursor")
    return Cursor(int(match[2]), int(match[3])) if match[1] == name else None


def _name(generation_id: uuid.UUID) -> str:
    return generation_id.hex[:12]
