"""Frames: whatever a text holds, an event is two lines and an empty one, and its data is what was put in."""

import json

import pytest

from generation.sse import frame, text_frame

TEXTS = [
    "plain",
    "lines\nand\r\nmore\rof them",
    "data: x\n\n",
    "\x85 \u2028 \u2029 \x0b \x0c \x1c",
    "Привет \u2028 🌹",
    '" \\ </script>',
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_one_line_for_every_client(text: str) -> None:
    for event in (text_frame("token", text, event_id="1-1"), frame("token", {"token": text}, event_id="1-1")):
        name, data, *nothing = event.decode().splitlines()
        assert (name, nothing) == ("id: 1-1", [""])
        assert json.loads(data.removeprefix("data: ")) == {"type": "token", "data": {"token": text}}
