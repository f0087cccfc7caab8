"""Answers that need nobody to look at them: empty, copied from the task, or far too short to say anything."""

import re
import unicodedata

EMPTY = "empty"
COPIED = "copied"
TOO_SHORT = "too_short"

# Fewer words, or different words, say nothing about a task that takes minutes.
LEAST_WORDS = 3
# So many words in a row that also stand in the task are no coincidence; and that much of an answer is all of it.
RUN_OF_WORDS = 5
COPIED_SHARE = 0.9


def screened(answer: str, task_text: str) -> str:
    """Return why an answer gets no points without anybody looking at it, empty where somebody must."""
    if is_blank(answer):
        return EMPTY
    words = _words(answer)
    if len(set(words)) < LEAST_WORDS and sum(map(len, set(words))) < 4 * LEAST_WORDS:
        return TOO_SHORT
    return COPIED if _is_copied(words, _words(task_text)) else ""


def is_blank(answer: str) -> bool:
    """Return whether there is nothing to see in an answer: no letter, no digit, no sign."""
    return all(unicodedata.category(one)[0] in "ZC" or one in "\u2800\u3164\u115f\u1160\uffa0" for one in answer)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def _is_copied(words: list[str], source: list[str]) -> bool:
    if len(words) < RUN_OF_WORDS:
        return False
    runs = {tuple(source[place : place + RUN_OF_WORDS]) for place in range(len(source) - RUN_OF_WORDS + 1)}
    copied = [False] * len(words)
    for place in range(len(words) - RUN_OF_WORDS + 1):
        if tuple(words[place : place + RUN_OF_WORDS]) in runs:
            copied[place : place + RUN_OF_WORDS] = [True] * RUN_OF_WORDS
    return sum(copied) >= COPIED_SHARE * len(words)
