"""Markdown by authors and models, as HTML that can do no harm and takes no more work than its length.

The browser renders the same texts while they grow (web/static/web/js/markdown.js). What a link may be is the same
there; tests/markdown_corpus.json goes through both. Both show a text that is too long, or a table that is too large, as
it was written, and each what its own parser would take too long for: here depth, there emphasis.
"""

import re
from collections.abc import MutableMapping, Sequence
from functools import lru_cache
from typing import Any

import nh3
from django.utils.html import escape, linebreaks
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

# A text beyond any of these is shown as it was written. A long report has 20,000 characters.
MOST_CHARACTERS = 40_000
MOST_CELLS = 10_000  # a table fills up its short rows: 2 KB can become 65,000 cells
DEEPEST = 20  # the parser drops what lies deeper; and each level of brackets without an end costs another look at all

# Absolute addresses of other sites and of people. Not what a browser reads as relative (https:x, //x), and nothing with
# what a browser leaves out or turns round before it reads an address (control characters, spaces, backslashes).
_PLAIN = r"(?!%(?:[01][0-9a-f]|5c|7f))[^\x00-\x20\x7f-\x9f\\]"
LINK = re.compile(
    rf"https?://[^\x00-\x20\x7f-\x9f\\/?#%@]+(?:[/?#](?:{_PLAIN})*)?|mailto:(?![/?#])(?:{_PLAIN})+", re.IGNORECASE
)
_TAGS = {
    *("p", "br", "hr", "h3", "h4", "h5", "h6", "blockquote", "pre", "code", "em", "strong", "s", "ul", "ol", "li"),
    *("table", "thead", "tbody", "tr", "th", "td", "a"),
}  # no images: nothing on a page may ask another host for anything


class _Renderer(RendererHTML):
    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        return escape(self.renderInlineAsText(tokens[idx].children, options, env))


class _Markdown(MarkdownIt):
    def validateLink(self, url: str) -> bool:  # noqa: N802  # the package's name
        return bool(LINK.fullmatch(url))


_markdown = _Markdown("js-default", {"html": False, "linkify": False, "maxNesting": DEEPEST}, renderer_cls=_Renderer)


def _fitted(tokens: list[Token]) -> list[Token]:
    """Fit a text into a page that has its own h1 and h2, and whose policy allows no style attributes."""
    for token in tokens:
        if token.tag in {"h1", "h2"}:
            token.tag = "h3"
        if style := token.attrs.pop("style", None):
            token.attrSet("align", str(style).removeprefix("text-align:"))
    return tokens


def _is_too_large(text: str) -> bool:
    lines = text.split("\n")
    return len(text) > MOST_CHARACTERS or len(lines) * max(line.count("|") for line in lines) > MOST_CELLS


@lru_cache(maxsize=512)
def to_html(text: str) -> SafeString:
    """Return a text as HTML. Kept, because it is three quarters of the work for a report page, which shows eleven."""
    if _is_too_large(text):
        return _as_written(text)
    tokens = _markdown.parse(text)
    if any(token.level >= DEEPEST - 1 for token in tokens):
        return _as_written(text)
    html = nh3.clean(
        _markdown.renderer.render(_fitted(tokens), _markdown.options, {}),
        tags=_TAGS,
        attributes={"a": {"href", "title"}, "ol": {"start"}, "th": {"align"}, "td": {"align"}},
        attribute_filter=_keep_link,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(html)  # noqa: S308  # cleaned by nh3 in the line above


def _as_written(text: str) -> SafeString:
    return mark_safe(linebreaks(text, autoescape=True))  # noqa: S308  # escaped


def _keep_link(tag: str, name: str, value: str) -> str | None:
    return None if name == "href" and not LINK.fullmatch(value) else value
