"""Answers that speak to whoever marks them instead of doing the task: which passages do, as far as code can see.

They are marked for what they say about the task; staff see that they tried. What is found here costs a passage its
worth as a quotation, so it must not happen to honest answers: each pattern needs words of marking or of machines.
"""

import functools
import re
from typing import NamedTuple


class Span(NamedTuple):
    """Characters of an answer, from `start` to before `end`."""

    start: int
    end: int


_PATTERNS = [
    # English
    r"\b(ignore|disregard|forget|override|bypass)\b[^.\n]{0,60}\b(instructions?|prompts?|rubrics?|criteria|rules|above)\b",
    r"\b(give|award|assign|grant)\b[^.\n]{0,30}\b(full|maximum|max|highest|top|perfect)\b.{0,12}\b"
    r"(points?|marks?|scores?|grades?|credits?)\b",
    r"\b(full|maximum|highest|top|perfect) (points?|marks?|scores?|grades?|credits?)\b[^.\n]{0,40}\b(all|every|each)\b",
    r"\byou are (now |no longer )?(an?|the) (\w+ ){0,3}(grader|marker|assistant|ai|language model|examiner|assessor)\b",
    r"\b(dear|hey|attention|note to)( the)? (ai|grader|marker|language model|assessor|examiner|llm)\b",
    r"\b(system|developer) (prompt|message|override)\b",
    r"\bpre-?approved\b[^.\n]{0,40}\b(answer|submission|response)\b",
    r"\b(this|the) (answer|submission|response) (has|was) (already )?(been )?(marked|graded|approved|verified)\b",
    # Russian
    r"(игнорир|забудь|отмени|не обращай внимани)\w*[^.\n]{0,60}(инструкци|критери|промпт|правила оцен|выше)\w*",
    r"(постав|выстав|присво|начисл|дай)\w*[^.\n]{0,30}(максимальн|высш|наивысш)\w* (балл|оценк)\w*",
    r"\b(ты|вы) (теперь|больше не)[^.\n]{0,20}(проверяющ|экзаменатор|ассистент|оценщик|языков)\w*",
    r"системн\w+ (сообщени|инструкци|промпт)\w*|уважаем\w+ (проверяющ|модел|ии\b|нейросет)\w*",
    # Arabic
    r"(تجاهل|انس|اهمل|ألغ)\w*[^.\n]{0,60}(التعليمات|تعليمات|المعايير|القواعد|السابقة|أعلاه)",
    r"(أعط|اعط|امنح|ضع|سجل)\w*[^.\n]{0,40}"
    r"(الدرجة الكاملة|الدرجات الكاملة|العلامة الكاملة|أعلى درجة|أعلى علامة)",
    r"(أنت الآن|أيها|عزيزي) ?[^.\n]{0,20}(المصحح|المقيم|النموذج|المساعد|الذكاء)",
    r"(رسالة|تعليمات|أوامر) النظام",
    # Turns, tags and JSON of machines
    r"<\|?/?(im_start|im_end|system|assistant|user|endoftext|s|inst)\|?>|\[/?(inst|system)\]",
    r"^\s*(#{1,6}\s*)?(system|assistant|developer|система|النظام)\s*:",
    r"[\"'“”](level|points|criterion|marks|next_time)[\"'“”]\s*:\s*[\[{\"'\d“]",
]
_INSTRUCTING = re.compile("|".join(f"(?:{pattern})" for pattern in _PATTERNS), re.IGNORECASE | re.MULTILINE)
_HIDDEN = "\u200b-\u200d\u2060-\u2064\ufeff\U000e0000-\U000e007f"
_HIDES = re.compile(f"[{_HIDDEN}]{{2,}}")
_INVISIBLE = re.compile(f"[\u00ad\u200e\u200f{_HIDDEN}]")
MOST_FOUND = 50


@functools.lru_cache(maxsize=128)  # asked again by each reader of the marks
def instructing_passages(answer: str) -> tuple[Span, ...]:
    """Return the sentences of an answer in which it speaks to whoever marks it, or hides characters."""
    visible, places = _without_hidden(answer)
    found = [Span(places[match.start()], places[match.end() - 1] + 1) for match in _INSTRUCTING.finditer(visible)]
    found += [Span(*match.span()) for match in _HIDES.finditer(answer)]
    return tuple(_sentence_around(answer, span) for span in found[:MOST_FOUND])


def _without_hidden(answer: str) -> tuple[str, list[int]]:
    """Return an answer without what nobody sees, and where in the answer each of its characters stands."""
    kept = [(place, one) for place, one in enumerate(answer) if not _INVISIBLE.match(one)]
    return "".join(one for _, one in kept), [place for place, _ in kept]


def _sentence_around(answer: str, span: Span) -> Span:
    """Return the sentence that a passage stands in: what is said in one breath with it is worth no more."""
    before = max((answer.rfind(mark, 0, span.start) for mark in ".!?\n؟"), default=-1)
    after = min((place for mark in ".!?\n؟" if (place := answer.find(mark, span.end)) >= 0), default=len(answer) - 1)
    return Span(before + 1, after + 1)
