"""HL7 v2: reports from text observations, whatever separators, line ends and frames they have."""

import logging
from pathlib import Path

import pytest

from tests.helpers.preparing import cells, in_process, prepared
from tests.helpers.rows import read, read_truncated, refusal

HEADER = r"MSH|^~\&|RAD|HOSP|EHR|HOSP|20260101||ORU^R01|{id}|P|2.5"
PATIENT = "PID|1||77^^^HOSP^MR||DOE^JANE^M"
REPORT = "OBR|1|P1|F9^LAB|71020^Chest X-ray^LN"


def message(*observations: str, number: str = "M1") -> str:
    return "\r".join([HEADER.format(id=number), PATIENT, REPORT, *observations])


def observation(
    text: str, label: str = "18782-3^Findings", kind: str = "TX", ended: str = "F"
) -> str:
    return f"OBX|1|{kind}|{label}||{text}||||||{ended}"


def sections(tmp_path: Path, *observations: str) -> list[tuple[str, str]]:
    (tmp_path / "a.hl7").write_text(message(*observations), "utf-8")
    rows, errors = read(tmp_path / "a.hl7")
    assert errors == []
    found: list[tuple[str, str]] = rows[0]["sections"]
    return found


def test_a_message_is_a_record(tmp_path: Path) -> None:
    parts = [observation("The lungs are clear."), observation("No effusion.")]
    parts.append(observation("Normal film.", "19005-8^Impression"))
    (tmp_path / "a.hl7").write_text(message(*parts))
    rows, errors = read(tmp_path / "a.hl7")
    found = [("FINDINGS", "The lungs are clear.\nNo effusion.")]
    assert rows == [{"id": "M1", "group": "77", "sections": found, "target": "Normal film."}]
    assert errors == []


@pytest.mark.parametrize(
    ("label", "heading"),
    [
        ("18782-3^Findings^LN", "FINDINGS"),
        ("71020&GDT", "FINDINGS"),
        ("71020&REC^71020", "RECOMMENDATION"),
        ("18782-3", "CHEST X-RAY"),  # a code is not a label: the ordered service is
        ("", "CHEST X-RAY"),
    ],
)
def test_labels(label: str, heading: str, tmp_path: Path) -> None:
    assert sections(tmp_path, observation("Clear.", label)) == [(heading, "Clear.")]


def test_a_document_message_is_labelled_with_its_type(tmp_path: Path) -> None:
    lines = [HEADER.format(id="1"), PATIENT, "TXA|1|DS^Discharge summary", observation("Home.", "")]
    (tmp_path / "a.hl7").write_text("\r".join(lines))
    assert read(tmp_path / "a.hl7")[0][0]["sections"] == [("DISCHARGE SUMMARY", "Home.")]


def test_an_impression_alone_is_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.hl7").write_text(message(observation("Normal.", "71020&IMP")))
    [row] = read(tmp_path / "a.hl7")[0]
    assert (row["sections"], row["target"]) == ([("IMPRESSION", "Normal.")], None)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (r"Line 1~line 2", "Line 1\nline 2"),
        (r"one\.br\two\.sp2\three", "one\ntwo\nthree"),
        (r"A\T\B \F\ \S\ \R\ \E\ end", "A&B | ^ ~ \\ end"),
        (r"\H\bold\N\ x", "bold x"),
        (r"Fi\XC3A8\vre", "Fièvre"),
        (r"\XE9\t\X0D\ x", "ét\r x"),
        (r"C:\temp and \T\ more", r"C:\temp and & more"),
        (r"ends with \ and goes on", r"ends with \ and goes on"),
        (r"\Zabc\ \C2842\ stay", r"\Zabc\ \C2842\ stay"),
    ],
)
def test_escapes(raw: str, text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No text is lost after a backslash, and none is written to a log."""
    with caplog.at_level(logging.DEBUG):
        assert sections(tmp_path, observation(raw)) == [("FINDINGS", text)]
    assert not caplog.records


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
@pytest.mark.parametrize("frame", [("", ""), ("\x0b", "\x1c\r"), ("\ufeff", "\n\n")])
def test_line_ends_and_frames(end: str, frame: tuple[str, str], tmp_path: Path) -> None:
    whole = [message(observation(f"Film {n}."), number=f"M{n}") for n in range(3)]
    text = "".join(frame[0] + each.replace("\r", end) + end + frame[1] for each in whole)
    (tmp_path / "a.hl7").write_bytes(text.encode())
    rows, errors = read(tmp_path / "a.hl7")
    assert [(row["id"], row["sections"][0][1]) for row in rows] == [
        (f"M{n}", f"Film {n}.") for n in range(3)
    ]
    assert errors == []


def test_a_batch_and_other_separators(tmp_path: Path) -> None:
    odd = r"MSH*:~\%*RAD*H*E*H*2026**ORU:R01*M2*P*2.5" "\rPID*1**88:x\rOBX*1*TX*1:Note**A:B %\\S\\"
    lines = [r"FHS|^~\&|x", r"BHS|^~\&|x", message(observation("One.")), odd, "BTS|2", "FTS|1"]
    (tmp_path / "a.hl7").write_text("\r".join(lines))
    rows, errors = read(tmp_path / "a.hl7")
    assert [(row["id"], row["group"]) for row in rows] == [("M1", "77"), ("M2", "88")]
    assert rows[1]["sections"] == [("NOTE", "A:B %:")]
    assert errors == []


def test_a_line_within_a_text_continues_it(tmp_path: Path) -> None:
    broken = observation("The lungs\nMRI of the chest: advised\nare clear.")
    assert sections(tmp_path, broken) == [
        ("FINDINGS", "The lungs\nMRI of the chest: advised\nare clear.")
    ]


@pytest.mark.parametrize(
    ("patient", "visit", "group"),
    [
        ("PID|1||9^^^H^SS~77^^^H^MR", "", "77"),
        ("PID|1||9^^^H~77^^^X", "", "9"),
        ("PID|1|55", "", "55"),
        ("PID|1", "PV1|1|I|||||||||||||||||V7", "V7"),
        ("", "", None),
    ],
)
def test_the_group_is_the_patient_or_the_visit(
    patient: str, visit: str, group: str | None, tmp_path: Path
) -> None:
    lines = filter(None, [HEADER.format(id=""), patient, visit, REPORT, observation("Clear.")])
    (tmp_path / "a.hl7").write_text("\r".join(lines))
    [row] = read(tmp_path / "a.hl7")[0]
    assert row["group"] == group
    assert row["id"] == "F9"  # without a message id, the filler's order number


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        (["AL1|1"], "no OBX segment in a message of type ORU^R01, so no text"),
        (
            [observation("5.4", kind="NM"), observation("^TEXT^^Base64^QQ==", kind="ED")],
            "no text in the OBX segments of a message of type ORU^R01 (their types: ED, NM)",
        ),
        (
            [observation("Wrong patient.", ended="W")],
            "no text in the OBX segments of a message of type ORU^R01 (their types: TX)",
        ),
    ],
)
def test_messages_without_text_are_counted(parts: list[str], why: str, tmp_path: Path) -> None:
    path = tmp_path / "a.hl7"
    path.write_text("\r".join([message(observation("Clear.")), message(*parts, number="M2")]))
    rows, errors = read(path)
    assert len(rows) == 1
    assert errors == [f"a.hl7:5: {why}"]


def test_messages_without_text_do_not_stop_the_run(tmp_path: Path) -> None:
    path = tmp_path / "a.hl7"
    lab = message(observation("5.4", kind="NM"), number="M2")
    path.write_text("\r".join([message(observation("Clear.")), lab, lab]))
    flags = ["--task=text", "--val_share=0", "--test_share=0", "--show=0"]
    shown = prepared(f"--source={path}", *flags, f"--out={tmp_path / 'out'}")
    assert cells(shown, "Dropped")["record"][-1] == "2"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("PID|1||77", "a.hl7:1: no message header; an HL7 v2 message starts with MSH: is this "),
        ("", "a.hl7 has no HL7 message; a message starts with MSH"),
        ("<>", "a.hl7:1: no message header"),
    ],
)
def test_what_is_not_hl7_is_refused(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "a.hl7").write_text(text)
    assert refusal(tmp_path / "a.hl7").startswith(why)


@pytest.mark.parametrize("header", ["MSH", "MSH|", "MSH|^", "MSHA^~X|", "MSH|||x", "MSH    "])
def test_a_header_without_separators_is_a_bad_message(header: str, tmp_path: Path) -> None:
    (tmp_path / "a.hl7").write_text(
        "\r".join([header, observation("Clear."), message(observation("B."))])
    )
    rows, errors = read(tmp_path / "a.hl7")
    assert len(rows) == 1
    [error] = errors
    assert error.startswith("a.hl7:1: the message header (MSH) does not declare its separators")


def test_a_line_in_another_encoding_is_a_bad_message(tmp_path: Path) -> None:
    path = tmp_path / "a.hl7"
    path.write_bytes("\r".join([message(observation("Fièvre")), message()]).encode("cp1252"))
    errors = read(path)[1]
    assert errors[0].startswith("a.hl7:1: not UTF-8 text; --encoding=cp1252")
    assert read(path, "cp1252")[0][0]["sections"] == [("FINDINGS", "Fièvre")]


def test_a_folder_of_messages(tmp_path: Path) -> None:
    folder = tmp_path / "messages"
    folder.mkdir()
    for n in range(40):
        text = message(observation(f"Film {n} of {n * 7919}."), number=f"M{n}")
        (folder / f"m{n}.hl7").write_text(text.replace("77^^^", f"{n // 4}^^^"))
    flags = ["--task=text", "--val_share=0.2", "--test_share=0.2", "--show=0"]
    flags += [f"--source={folder}", f"--out={tmp_path / 'out'}"]
    counts = cells(prepared(*flags), "Records of")
    assert sum(int(row[0]) for row in counts.values()) == 40
    assert sum(int(row[1]) for row in counts.values()) == 10  # the patients
    done = in_process(*flags, "--input=text")
    assert done.returncode == 2
    assert "is HL7 v2, which says itself what its parts are; do not name columns" in done.stderr
    assert (
        len(cells(prepared(*flags, "--group="), "Records of")["train"]) == len(counts["train"]) - 1
    )


def test_truncated_messages_never_raise(tmp_path: Path) -> None:
    path = tmp_path / "a.hl7"
    path.write_text("\r".join(message(observation(rf"Film \T\ {n}.~x")) for n in range(12)))
    assert len(read_truncated(path, step=7)) > 200
