"""TextStream returns whole characters, finds stop strings across tokens, and takes nothing back."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clingpt.text.tokenizer import EOT, TextStream, Tokenizer

TOKENIZER = Tokenizer.load()


def streamed(ids: Sequence[int], stop: Sequence[str] = ()) -> tuple[list[str], TextStream]:
    """Push ids until a stop string; return the pieces and the stream."""
    stream = TextStream(TOKENIZER, stop)
    pieces = []
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped_by is not None:
            return pieces, stream
    return [*pieces, stream.end()], stream


def by_characters(text: str) -> list[int]:
    """Encode a text one byte per token."""
    return [TOKENIZER.encode(bytes([byte]).decode("latin-1"))[0] for byte in text.encode("ascii")]


@given(st.text())
def test_pieces_are_whole_characters_and_add_up_to_the_text(text: str) -> None:
    pieces, stream = streamed(TOKENIZER.encode(text))
    valid = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    assert "".join(pieces) == stream.text == valid
    assert "\ufffd" in valid or not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("text", ["5 ± 2", "≥ 3 µg", "β-blocker", "😀👩🏽‍⚕️", "日本語", "é̂"])
def test_half_a_character_is_held_back_and_dropped_at_the_end(text: str) -> None:
    ids = TOKENIZER.encode(text)
    for n in range(len(ids) + 1):
        pieces, stream = streamed(ids[:n])
        assert text.startswith(stream.text) and "".join(pieces) == stream.text
        whole = TOKENIZER.decode_bytes(ids[:n])
        assert stream.text == whole.decode("utf-8", "ignore")


def test_streaming_random_ids_equals_decoding_them() -> None:
    generator = random.Random(0)
    for _ in range(300):
        ids = [generator.randrange(EOT + 1) for _ in range(generator.randrange(30))]
        pieces, stream = streamed(ids)
        whole = TOKENIZER.decode(ids)
        assert "".join(pieces) == stream.text
        # Only an incomplete last character may be missing.
        assert whole.startswith(stream.text)
        assert whole[len(stream.text) :] in ("", "\ufffd")


TEXT = "RESULTS: it helped.\nQuestion: is it so?\n\nAnswer: yes"


@pytest.mark.parametrize(
    ("stop", "cut", "by"),
    [
        (["\nQuestion:"], "RESULTS: it helped.", "\nQuestion:"),
        (["\n\n", "\n"], "RESULTS: it helped.", "\n"),
        (["\n\n"], "RESULTS: it helped.\nQuestion: is it so?", "\n\n"),
        (["RESULTS"], "", "RESULTS"),
        (["yes"], TEXT[:-3], "yes"),
        (["yes!", "never", "Answer: yes or"], TEXT, None),
        (
            ["it helped.\nQuestion: is", "help"],
            "RESULTS: it ",
            "help",
        ),  # ends first
        (["so", "is it so"], "RESULTS: it helped.\nQuestion: ", "is it so"),
        ([], TEXT, None),
    ],
)
@pytest.mark.parametrize("encode", [TOKENIZER.encode, by_characters])
def test_a_text_ends_before_its_first_stop_string(
    stop: list[str], cut: str, by: str | None, encode: object
) -> None:
    assert callable(encode)
    pieces, stream = streamed(encode(TEXT), stop)
    assert "".join(pieces) == stream.text == cut and stream.stopped_by == by


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_token_boundaries_do_not_change_streamed_text(text: str, stop: list[str]) -> None:
    ends = sorted((text.find(s) + len(s), text.find(s)) for s in stop if s in text)
    expected = text[: ends[0][1]] if ends else text
    for ids in (TOKENIZER.encode(text), by_characters(text)):
        pieces, stream = streamed(ids, stop)
        assert stream.text == expected
        for n in range(len(pieces)):
            assert expected.startswith("".join(pieces[:n]))


def test_multi_byte_stop_strings_are_found() -> None:
    pieces, stream = streamed(TOKENIZER.encode("dose 5 µg ± 2 😀 done"), ["± 2 😀"])
    assert "".join(pieces) == stream.text == "dose 5 µg " and stream.stopped_by == "± 2 😀"
