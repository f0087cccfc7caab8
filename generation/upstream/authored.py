"""Authored texts, replayed as if they were being written, so that the whole site works without any key."""

import asyncio
import math
import re
from collections.abc import Iterator

from generation.upstream import CompletionEnd, Pieces

SECONDS_PER_PIECE = 0.03
# A few times as fast as people read; a long text comes in larger pieces, so that nobody waits longer than this.
WORDS_PER_PIECE = 3
LONGEST_SECONDS = 5.0

_words = re.compile(r"\S+\s*|\s+")


def pieces_of(text: str) -> Iterator[str]:
    """Cut a text into pieces of a few words that give it back when joined."""
    words = _words.findall(text)
    size = max(WORDS_PER_PIECE, math.ceil(len(words) * SECONDS_PER_PIECE / LONGEST_SECONDS))
    for start in range(0, len(words), size):
        yield "".join(words[start : start + size])


async def replay(text: str) -> Pieces:
    for piece in pieces_of(text):
        yield piece
        await asyncio.sleep(SECONDS_PER_PIECE)
    yield CompletionEnd(finish_reason="stop")
