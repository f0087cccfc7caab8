"""The YAML of profession packs: mappings, lists, texts, whole numbers, and nothing that grows or hides.

YAML itself also has tags, by which it names types, references, by which a short file becomes an endless one, entries
that occur twice, and words without quotes that turn into dates or into numbers to the base 60.
"""

import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

DEEPEST = 20
MOST_NODES = 20_000  # a shipped pack has 400; references count as often as they are used
_NO_CHARACTER = re.compile("[\x00\ud800-\udfff]")
_WHOLE_NUMBER = re.compile("-?(0|[1-9][0-9]{0,17})")
_TRUTH = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


class PlainYAMLError(Exception):
    """A text that is no YAML, or more than what packs are made of; the message says where and what to do."""


class _Refusal(yaml.MarkedYAMLError):
    def __init__(self, remedy: str, node: Any) -> None:
        super().__init__(problem=remedy, problem_mark=node.start_mark)


class _Loader(yaml.SafeLoader):
    """Composes nodes, of which `_Values` makes what they stand for; SafeLoader's own constructors are not used."""

    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # half typed
        if getattr(event, "tag", None) is not None:
            raise _Refusal("remove the tag; tags such as !name are not read", event)
        self.depth += 1
        if self.depth > DEEPEST:
            raise _Refusal(f"nest less; {DEEPEST} levels are read", event)
        node: Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Values:
    """Makes dicts, lists and scalars of nodes, as many as are read."""

    def __init__(self) -> None:
        self.count = 0

    def value(self, node: Node, *, depth: int = 1) -> object:
        self.count += 1
        if self.count > MOST_NODES or depth > DEEPEST:
            raise _Refusal(f"write less, or fewer references such as *name; {MOST_NODES} entries are read", node)
        match node:
            case MappingNode():
                return self.mapping(node, depth=depth)
            case SequenceNode():
                return [self.value(entry, depth=depth + 1) for entry in node.value]
            case _:
                return _scalar(node)

    def mapping(self, node: MappingNode, *, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise _Refusal("write a plain name before the colon", key)
            if key.value in found:
                raise _Refusal("remove one of the entries with this name", key)
            found[key.value] = self.value(value, depth=depth + 1)
        return found


def _scalar(node: Node) -> object:
    text: str = node.value
    if _NO_CHARACTER.search(text):
        raise _Refusal("remove what is no character, such as \\0 or half of a pair like \\ud83d", node)
    match node.tag.rpartition(":")[2]:
        case "str":
            return text
        case "null":
            return None
        case "bool":
            return _TRUTH[text.lower()]
        case "int" if _WHOLE_NUMBER.fullmatch(text):
            return int(text)
        case kind:
            raise _Refusal(
                f"put it in quotes if it is a text, or write a whole number; as it stands it is a {kind}", node
            )


def parse(text: str) -> object:
    """Return what a pack's YAML says.

    Raises: PlainYAMLError: with the first place that is something else.
    """
    try:
        node = _Loader(text).get_single_node()
        return None if node is None else _Values().value(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise PlainYAMLError(f"{place}{error.problem}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two for \U with a number beyond all letters
        raise PlainYAMLError(" ".join(str(error).split())) from error
