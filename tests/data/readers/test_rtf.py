"""Rich Text Format: the text, in the encoding that each document declares."""

from pathlib import Path

import pytest
from striprtf import striprtf

from clingpt.base.errors import DataError
from clingpt.data.readers.rtf import rtf_to_text
from tests.helpers.preparing import cells, prepared
from tests.helpers.rows import read, read_truncated

FONTS = r"{\fonttbl{\f0\fswiss\fcharset0 Arial;}{\f1\fcharset204 Arial Cyr;}}"


def document(body: str, head: str = r"\ansi\ansicpg1252\deff0") -> str:
    return rf"{{\rtf1{head}{FONTS}{{\*\generator Riched20;}}\pard\f0 {body}\par}}"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (r"The \b lungs\b0  are clear.", "The lungs are clear."),
        (r"one\par two\line three\tab four", "one\ntwo\nthree\tfour"),
        (r"Fi\'e8vre \'e0 39 \'b0C", "Fièvre à 39 °C"),
        (r"\u8804?5 mg \u-10179?\u-8704? end", "≤5 mg 😀 end"),
        (r"\lquote x\rquote  \endash  \{y\} \\ z", "‘x’ – {y} \\ z"),
        (r"\f1 \'ef\'f0\f0  done", "пр done"),
        (r"\trowd\cellx1 Hb\cell 13\cell\row", "Hb|13|\n"),
        (r"a{\header DOE, JANE MRN 7}{\footer page 1}b", "ab"),
        (r"{\pict\pngblip 89504e470d0a}text", "text"),
        (
            '{\\field{\\*\\fldinst{HYPERLINK "http://a.b"}}{\\fldrslt{the guideline}}} x',
            "the guideline x",
        ),
    ],
)
def test_text(body: str, text: str) -> None:
    found = rtf_to_text(document(body).encode("ascii"))
    assert found.strip() == text.strip() or text in found


@pytest.mark.parametrize(
    ("head", "code_page", "encoding"),
    [
        (r"\ansi\ansicpg1252", "cp1252", "auto"),
        (r"\ansi\ansicpg1250", "cp1250", "auto"),
        (r"\ansi\ansicpg65001", "utf-8", "auto"),
        (r"\ansi", "cp1252", "auto"),
        (r"\mac", "mac_roman", "auto"),
        (r"\pc", "cp437", "auto"),
        (r"\pca", "cp850", "auto"),
        (r"\ansi", "utf-8", "utf-8"),  # a program that writes another encoding than it says
    ],
)
def test_bytes_beyond_ascii(head: str, code_page: str, encoding: str) -> None:
    data = document("Größe ä", head).encode(code_page)
    assert rtf_to_text(data, encoding).strip() == "Größe ä"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not RTF: it does not start with {\\rtf"),
        (b"PK\x03\x04 a Word document", "not RTF"),
        (b"{\\rtf1\\ansi The lungs are", "truncated: its last brace is missing"),
        (b"{\\rtf1\\ansi The \\} lungs", "truncated"),
        (b"{\\rtf1\\ansi\\ansicpg65001 \xe9}", "its bytes are not utf-8 text"),
        (b"{\\rtf1\\ansi\\ansicpg99999 \xe9}", "its bytes are not cp99999 text"),
        (b"{\\rtf1\\ansi\\uc x}", "damaged RTF (TypeError)"),
        (b"{\\rtf1\\ansi\\u99999999 x}", "damaged RTF (ValueError)"),
    ],
)
def test_what_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(DataError) as refused:
        rtf_to_text(data)
    assert why in str(refused.value)


def test_padding_after_the_document_is_not_text() -> None:
    data = document("Clear.").encode() + b"\x00\x00 }{ DOE, JANE"
    assert rtf_to_text(data).strip() == "Clear."


def test_fields_are_on_lines_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one long line of fields, striprtf looks for links for minutes."""
    longest = []
    whole = striprtf.rtf_to_text

    def watched(source: str, *args: object, **options: object) -> object:
        longest.append(max(map(len, source.splitlines())))
        return whole(source, *args, **options)

    monkeypatch.setattr(striprtf, "rtf_to_text", watched)
    fields = r"{\field{\*\fldinst{PAGE}}{\fldrslt{x}}} " * 1000
    assert rtf_to_text(document(fields).encode()).count("x") == 1000
    assert longest[0] < 200


def test_a_folder_of_documents(tmp_path: Path) -> None:
    folder = tmp_path / "letters"
    (folder / "ward").mkdir(parents=True)
    (folder / "ward/a.rtf").write_text(document("Clear."))
    (folder / "b.RTF").write_text(document("Opaque."))
    (folder / ".hidden.rtf").write_text(document("No."))
    (folder / "damaged.rtf").write_text(document("Cut.")[:-4])
    rows, errors = read(folder)
    assert rows == [{"id": "b", "text": "Opaque.\n"}, {"id": "ward/a", "text": "Clear.\n"}]
    [error] = errors
    assert "damaged.rtf: the RTF is truncated" in error
    assert read(folder / "b.RTF")[0] == [{"id": "b", "text": "Opaque.\n"}]
    flags = ["--task=text", "--val_share=0", "--test_share=0", "--show=0", "--skip_bad=True"]
    printed = prepared(f"--source={folder}", f"--out={tmp_path / 'out'}", *flags)
    assert cells(printed, "Records of")["train"][0] == "2"
    assert cells(printed, "Dropped")["record"][-1] == "1"


def test_truncated_documents_never_raise(tmp_path: Path) -> None:
    path = tmp_path / "a.rtf"
    path.write_text(document(r"Fi\'e8vre {\b \u8804?5} \{x\}" * 20))
    told = read_truncated(path, step=7)
    known = ("not RTF", "truncated", "are not cp12 text")  # the last within \ansicpg1252
    odd = [each for each in told if not any(why in each for why in known)]
    assert not odd
