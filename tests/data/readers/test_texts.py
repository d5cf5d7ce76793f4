"""A single text file: passages that cover it, in order, each ending at a paragraph's end."""

import random
import re
from pathlib import Path

import pytest

from clingpt.data.readers.texts import PASSAGE_CHARS
from tests.helpers.preparing import cells, prepared, random_text, refused
from tests.helpers.rows import read, read_shape, refusal

CUT = "cut at empty lines into passages of about 2,000 characters, which are the records"


def paragraphs(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    texts = (random_text(rng, rng.randrange(5, 30)) for _ in range(n))
    return [f"Number {i}:\n{text}.\n" for i, text in enumerate(texts)]


def test_passages_are_whole_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    parts = paragraphs(200)
    path.write_text("\n\n" + "\n".join(parts) + "\n\n")
    rows, errors, shape = read_shape(path)
    assert (errors, shape) == ([], ["plain text", CUT])
    assert re.sub("\n+", "\n", "".join(row["text"] for row in rows)) == "".join(parts)
    assert all(row["text"].startswith("Number ") for row in rows)
    assert all(len(row["text"]) >= PASSAGE_CHARS for row in rows[:-1])
    assert all(len(row["text"]) < PASSAGE_CHARS + 500 for row in rows)


def test_a_text_without_empty_lines_is_cut_at_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    whole = "".join(f"Line {n} of a log.\n" for n in range(1000))
    path.write_text(whole)
    rows, _ = read(path)
    assert "".join(row["text"] for row in rows) == whole
    assert {len(row["text"]) // PASSAGE_CHARS for row in rows[:-1]} == {2}


@pytest.mark.parametrize(
    "text",
    [
        "Tomorrow, and tomorrow,\nand tomorrow, and\ncreeps, in this petty\n",
        "Doctor:\tHow are you?\nPatient: fine\n",
        "Fever, cough.\nNo rash.\n",
        "id,note\n",
    ],
)
def test_prose_with_commas_and_tabs_is_no_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    rows, _, shape = read_shape(tmp_path / "a.txt")
    assert (rows, shape) == ([{"text": text}], ["plain text", CUT])


def test_a_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"plain\n5 \xb5g\n")
    assert refusal(path).startswith("a.txt:2: not UTF-8 text; --encoding=cp1252")
    assert read(path, "cp1252")[0] == [{"text": "plain\n5 µg\n"}]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-7", "punycode"])
def test_an_encoding_that_the_text_is_not_in_is_refused(encoding: str, tmp_path: Path) -> None:
    """Some codecs raise an error for the whole text instead of for single bytes."""
    path = tmp_path / "a.txt"
    path.write_bytes("plain\nat 5\xa0°C é +AAA~\n".encode())
    said = refusal(path, encoding)
    assert re.fullmatch(rf"a\.txt:\d: not {encoding} text; pass another --encoding, or .*", said)


def test_one_text_file_is_prepared_by_one_command(tmp_path: Path) -> None:
    path = tmp_path / "input.txt"
    path.write_text("\n".join(paragraphs(900)))
    out = tmp_path / "out"
    printed = prepared(f"--source={path}", "--task=text", f"--out={out}", "--show=0")
    records = cells(printed, "Records of")
    assert all(int(records[split][0]) > 3 for split in ("train", "val", "test"))
    assert f"Read {path} as plain text, {CUT}.\n" in printed


def test_a_text_too_short_to_split_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "input.txt"
    path.write_text("To be or not to be.\n" * 200)
    said = refused(f"--source={path}", "--task=text", f"--out={tmp_path / 'out'}")
    assert said.startswith(
        "the val split is empty: none of 1 record fell into a share of 5.0%; pass"
    )
    assert "or --val_share=0 to do without it" in said
    shares = ["--val_share=0", "--test_share=0", "--show=0"]
    printed = prepared(f"--source={path}", "--task=text", f"--out={tmp_path / 'out'}", *shares)
    assert cells(printed, "Records of")["train"][0] == "1"
