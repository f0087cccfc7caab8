"""Texts of models as HTML: links and images by one rule on the server and in the browser, and bounded work on both."""

import json
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import FrameType
from typing import TypedDict

import pytest
from playwright.sync_api import Page

from professions.markdown import to_html
from tests.conftest import Server


class Entry(TypedDict):
    """A text, and the addresses it may link to as a browser resolves them."""

    text: str
    links: list[str]


CORPUS: list[Entry] = json.loads((Path(__file__).parent / "markdown_corpus.json").read_text(encoding="utf-8"))

# What the dearest of the repeated pieces below takes is 130.
MOST_STEPS_PER_CHARACTER = 250
TAG = re.compile(r"</?\w[^>]*>")

# Renders each text with the module that learners' pages use, and reads the addresses out of the server's HTML as well.
READ_BOTH = """
    async ([texts, htmls]) => {
        const { markdown } = await import("/static/web/js/markdown.js");
        const render = await markdown;
        const read = (nodes) => ({
            links: [...nodes.querySelectorAll("[href]")].map((node) => node.href),
            rel: [...nodes.querySelectorAll("a")].every((node) => node.rel.includes("noopener")),
            loads: nodes.querySelectorAll("[src], [srcset], [style], script, iframe, object, form").length,
        });
        const parse = (html) => new DOMParser().parseFromString(html, "text/html").body;
        return [texts.map((text) => read(render(text))), htmls.map((html) => read(parse(html)))];
    }
"""


class Addresses(HTMLParser):
    """Collects what HTML refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in {"href", "src", "srcset", "action"}]


@pytest.mark.parametrize("entry", CORPUS, ids=str)
def test_the_server_links_to_absolute_addresses_alone(entry: Entry) -> None:
    addresses = Addresses()
    addresses.feed(to_html(entry["text"]))
    assert len(addresses.found) == len(entry["links"])


def test_browser_and_server_link_to_the_same_addresses(authored_server: Server, page: Page) -> None:
    page.goto(authored_server.url)
    texts = [entry["text"] for entry in CORPUS]
    for renderer in page.evaluate(READ_BOTH, [texts, [to_html(text) for text in texts]]):
        shown = {text: found["links"] for text, found in zip(texts, renderer, strict=True)}
        assert shown == {entry["text"]: entry["links"] for entry in CORPUS}
        assert all(found["rel"] and not found["loads"] for found in renderer)


def test_a_refused_link_is_there_to_read() -> None:
    assert to_html("[the plan](//evil.example)") == "<p>[the plan](//evil.example)</p>\n"
    assert to_html("![a <b>](https://example.org/a.png)") == "<p>a &lt;b&gt;</p>\n"


REPEATED = [
    *("![", "[", "]", "[a](", "![a](", "][", "[a](<", '[a](b "', "[a](b (", "[a](b", "[a](b) ", "![a][", "\\[[", "![`"),
    *("*a_ ", "*a **b ", "**a ", "a**", "*a", "**_a", "_a ", "a_", "*", "_", "~~a ", "~", "***a ", "`a", "` ``"),
    *("<", "<a ", "<!--", "<http://a", "<a@", "<b>", "&a", "&", "&#0;", "&#x", "\\", "a@", "http://a", "x"),
    *("> ", "- ", "1. ", "> - ", "- > ", "- a\n", "- a\n\n", "> a\n", "> a\n\n", "1. a\n", "\t- a\n", "# a\n"),
    *("~~~\n", "```\n", "    a\n", "a  \n", "\n", "\t", "|b|\n", "|", "|a|b\n|-|-|\n", "a|b\n-|-\n", "a|b\n"),
    *("[a]: <", "[a]:\n", '[a]: b "\n', "[a]: b '", "[a]: b\n", "a\n=\n"),
]
Builder = Callable[[int], str]


def repeat(piece: str) -> Builder:
    return lambda size: piece * (size // len(piece))


def rise(step: Callable[[int], str]) -> Builder:
    """Return what builds a text of lines or runs that grow by one each."""
    return lambda size: "".join(step(depth) for depth in range(1, int((2 * size) ** 0.5)))


def widen(size: int) -> str:
    """Build a table with a wide head and many rows of nothing, which the parser fills up."""
    return "|a" * (size // 8) + "\n" + "|-" * (size // 8) + "\n" + "|\n" * (size // 4)


BUILT: dict[str, Builder] = {
    "brackets within brackets": lambda size: "[" * (size // 2) + "]" * (size // 2),
    "emphasis within emphasis": lambda size: "*" * (size // 2) + "a" + "*" * (size // 2),
    "a table that fills itself up": widen,
    "lists within lists": rise(lambda depth: " " * depth + "- a\n"),
    "quotations within quotations": rise(lambda depth: ">" * depth + " a\n"),
    "runs of growing length": rise(lambda depth: "`" * depth + " "),
    "a list with a lazy end": lambda size: "- " * 50 + "\n" + "a\n" * (size // 2),
    "references": lambda size: "".join(f"[a{n}]: b\n" for n in range(size // 18)) + "\n" + "[a1]" * (size // 8),
    **{piece: repeat(piece) for piece in REPEATED},
}


def steps(text: str) -> int:
    """Return how many calls, of Python's functions and of built-in ones, it takes to render a text."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    to_html.cache_clear()
    sys.setprofile(note)
    try:
        to_html(text)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("name", BUILT)
def test_the_work_for_a_text_grows_no_faster_than_the_text(name: str) -> None:
    small, large = (steps(BUILT[name](size)) for size in (1500, 3000))
    assert large <= 2.5 * small + 2000
    assert large <= MOST_STEPS_PER_CHARACTER * 3000


def test_a_text_of_any_length_takes_little_work() -> None:
    assert steps("![" * 500_000) < 10_000
    assert steps(widen(4000)) < 10_000


@pytest.mark.parametrize("text", ["# a\n" * 20_000, widen(4000), "> " * 30 + "a"])
def test_a_text_that_is_too_much_is_shown_as_it_was_written(text: str) -> None:
    html = to_html(text + "\n<b>[b](https://example.org/)")
    assert set(TAG.findall(html)) <= {"<p>", "</p>", "<br>"}
    assert "[b](https://example.org/)" in html
    assert html.count("#") == text.count("#")


def test_lists_and_quotations_as_deep_as_people_write_them_are_rendered() -> None:
    assert "<li>deepest" in to_html("".join("  " * depth + "- a\n" for depth in range(5)) + "  " * 5 + "- deepest")
    assert to_html("> > > > a").count("<blockquote>") == 4


def test_in_the_browser_what_marked_cannot_bound_is_shown_as_it_was_written(
    authored_server: Server, page: Page
) -> None:
    page.goto(authored_server.url)
    texts = [build(40_000) for build in BUILT.values()]
    shown = page.evaluate(
        """
        async (texts) => {
            const { markdown } = await import("/static/web/js/markdown.js");
            const render = await markdown;
            return texts.map((text) => {
                const nodes = render(text);
                const count = (tags) => nodes.querySelectorAll(tags).length;
                return { cells: count("td"), marks: count("em, strong") };
            });
        }
        """,
        texts,
    )
    assert all(found["cells"] <= 10_000 and found["marks"] <= 1000 for found in shown)
    plain = page.evaluate(
        """
        async (text) => {
            const { markdown } = await import("/static/web/js/markdown.js");
            return (await markdown)(text).textContent;
        }
        """,
        "> " * 20_000 + "a",
    )
    assert plain == "> " * 20_000 + "a"
