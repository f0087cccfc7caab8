"""The decoder gives what decoding every frame by itself would give, however the bytes arrive."""

import json
import random
from collections.abc import Iterator

import pytest

from generation.upstream.decoder import Decoder, ErrorInside

TEXTS = ["a", " two words", "", 'quotes " and \\ and \n', '"content":"x"', "три 🌹", "{", "}]", "\u2028", "[DONE]"]


def chunk(delta: object, **others: object) -> dict[str, object]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    return {"id": "chatcmpl-1", "model": "a-model", "choices": [choice], **others}


def frame(data: object, *, compact: bool = True) -> bytes:
    separators = (",", ":") if compact else (", ", ": ")
    return b"data: " + json.dumps(data, separators=separators, ensure_ascii=False).encode() + b"\n\n"


def frames(chance: random.Random, *, compact: bool, ends: str = "\n") -> Iterator[tuple[bytes, str]]:
    """Give frames in the order of a stream, with what looks alike and is not, and the text of each."""
    yield frame(chunk({"role": "assistant", "content": ""}), compact=compact), ""
    for _ in range(60):
        text = chance.choice(TEXTS)
        data, expected = chance.choice(
            [
                (chunk({"content": text}), text),
                (chunk({"content": text}), text),
                (chunk({"content": text}, obfuscation="x" * chance.randrange(9)), text),
                (chunk({"content": None}), ""),
                (chunk({"refusal": text}), ""),
                (chunk({"content": text}, message={"content": "elsewhere"}), text),
                ({"message": {"content": "elsewhere"}} | chunk({"content": text}), text),
                ({"message": {"content": text}} | chunk({"content": "behind"}), "behind"),
                ({"message": {"content": text}} | chunk({"content": text}), text),
                (chunk({"content": text}, usage={"completion_tokens": chance.randrange(9)}), text),
                ({"choices": [chunk({"content": one})["choices"][0] for one in (text, "b")]}, text),  # type: ignore[index]
            ]
        )
        yield frame(data, compact=compact).replace(b"\n", ends.encode()), expected
    yield b": a comment\n\n", ""
    yield b"data: [DONE]\n\n", ""


@pytest.mark.parametrize("seed", range(20))
def test_text_is_the_same_however_it_is_cut(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # no secret
    stream = list(frames(chance, compact=seed % 2 == 0, ends="\r\n" if seed % 3 == 0 else "\n"))
    data = b"".join(each for each, _ in stream)
    decoder, got = Decoder(), ""
    while data:
        length = chance.randrange(1, 400)
        got += decoder.read(data[:length])
        data = data[length:]
    assert got == "".join(text for _, text in stream)
    assert decoder.is_done


def test_what_comes_beside_the_text_is_seen_though_the_text_looks_like_the_last() -> None:
    decoder = Decoder()
    assert decoder.read(frame(chunk({"content": "a"})) * 3) == "aaa"
    ended = chunk({"content": "b"})
    ended["choices"][0]["finish_reason"] = "stop"  # type: ignore[index]
    assert decoder.read(frame(ended | {"usage": {"prompt_tokens": 5, "completion_tokens": 4}})) == "b"
    assert decoder.finish_reason == "stop"
    assert decoder.usage == {"prompt_tokens": 5, "completion_tokens": 4}


def test_an_error_that_looks_like_a_text_is_an_error() -> None:
    decoder = Decoder()
    decoder.read(frame(chunk({"content": "a"})) * 2)
    with pytest.raises(ErrorInside, match="overloaded"):
        decoder.read(frame(chunk({"content": "a"}, error={"message": "overloaded"})))


def test_a_frame_that_breaks_off_in_its_text_is_broken() -> None:
    decoder = Decoder()
    decoder.read(frame(chunk({"content": "a"})) * 2)
    with pytest.raises(ValueError, match="Unterminated"):
        decoder.read(frame(chunk({"content": "a"}))[:-60] + b"\n\n")


def test_a_pair_of_surrogates_in_two_frames_becomes_its_character_and_a_half_a_replacement() -> None:
    decoder = Decoder()
    halves = [
        b'data: {"choices":[{"delta":{"content":"\\ud83c"}}]}\n',
        b'data: {"choices":[{"delta":{"content":"\\udf39"}}]}\n',
    ]
    assert decoder.read(halves[0] + halves[1]) == "🌹"
    assert [decoder.read(half) for half in halves] == ["", "🌹"], "also in two reads"
    assert decoder.read(halves[0] + halves[0]) == "\ufffd"
    assert decoder.finish() == "\ufffd"


def test_comments_are_not_even_decoded() -> None:
    decoder = Decoder()
    assert decoder.read(b": \xff\nevent: \xfe\n" + frame(chunk({"content": "a"}))) == "a"
    assert decoder.read(b'data: {"choices": [{"delta": {"content": "b\xffc"}}]}\n') == "b\ufffdc"


def test_what_is_written_otherwise_is_read_all_the_same() -> None:
    decoder = Decoder()
    compact = frame(chunk({"content": "a"}))
    assert decoder.read(compact + compact.replace(b'"content":"', b'"content": "')) == "aa"
