"""A position in the events of a generation.

A cursor is `{epoch}-{seq}`: which writing of the text, and how many characters (code points) of it have been shown.
The event that ends a text stands one behind its last character. So a cursor can be resumed from the stored row
alone, whatever became of the event log, and two events never share one.
"""

import re
from typing import NamedTuple

from django.utils.translation import gettext_lazy as _

from simulator.problems import Problem

_FORM = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")


class Cursor(NamedTuple):
    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


START = Cursor(0, 0)


def parse_cursor(value: str) -> Cursor:
    """Read what a client sends back as `Last-Event-ID` or `?after=`.

    Raises:
        Problem: 400 when it is not a cursor of ours.
    """
    match = _FORM.fullmatch(value)
    if match is None:
        raise Problem(_("The cursor cannot be read. Send the id of an event unchanged, or none."), code="bad_cursor")
    return Cursor(int(match[1]), int(match[2]))
