"""Markdown by authors and models, as HTML that can do no harm."""

from functools import lru_cache

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.token import Token

_markdown = MarkdownIt("js-default", {"html": False, "linkify": False})
_TAGS = {
    *(
        "p",
        "br",
        "hr",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "blockquote",
        "pre",
        "code",
        "em",
        "strong",
        "s",
        "ul",
        "ol",
        "li",
    ),
    *("table", "thead", "tbody", "tr", "th", "td", "a"),
}  # no images: nothing on a page may ask another host for anything


def _fitted(tokens: list[Token]) -> list[Token]:
    """Fit a text into a page that has its own h1 and h2, and whose policy allows no style attributes."""
    for token in tokens:
        if token.tag in {"h1", "h2"}:
            token.tag = "h3"
        if style := token.attrs.pop("style", None):
            token.attrSet("align", str(style).removeprefix("text-align:"))
    return tokens


@lru_cache(maxsize=512)
def to_html(text: str) -> SafeString:
    """Give a text as HTML. Kept, because it is three quarters of the work for a report page, which shows eleven."""
    html = nh3.clean(
        _markdown.renderer.render(_fitted(_markdown.parse(text)), _markdown.options, {}),
        tags=_TAGS,
        attributes={"a": {"href", "title"}, "ol": {"start"}, "th": {"align"}, "td": {"align"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(html)  # noqa: S308  # cleaned by nh3 in the line above
