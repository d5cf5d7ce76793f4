"""FHIR: what is read of each kind of resource, and why others are left out."""

import base64
import gzip
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from clingpt.base.errors import DataError
from clingpt.data.readers.fhir import iter_fhir
from clingpt.data.readers.reading import Reading
from clingpt.data.sources import iter_rows
from tests.helpers.preparing import cells, prepared, refused
from tests.helpers.rows import read_shape, read_truncated

Found = tuple[list[dict[str, Any]], list[str]]


def read(*resources: Any) -> Found:
    """Return the rows and the reasons for what was left out."""
    bad: list[DataError] = []
    rows = ((f"a.ndjson:{n}", row) for n, row in enumerate(resources, start=1))
    return [dict(row) for _, row in iter_fhir(rows, bad.append)], [str(error) for error in bad]


def attachment(text: str | bytes, kind: str | None = "text/plain") -> dict[str, Any]:
    data = text.encode() if isinstance(text, str) else text
    found: dict[str, Any] = {"data": base64.b64encode(data).decode()}
    return found if kind is None else {"contentType": kind, **found}


def narrative(html: str, status: str = "generated") -> dict[str, Any]:
    return {"status": status, "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{html}</div>'}


def report(**fields: Any) -> dict[str, Any]:
    whole = {"resourceType": "DiagnosticReport", "id": "r1", "status": "final", **fields}
    return {name: value for name, value in whole.items() if value is not None}


def document(*attachments: Any, **fields: Any) -> dict[str, Any]:
    content = [{"attachment": each} for each in attachments]
    return {"resourceType": "DocumentReference", "id": "d1", "content": content, **fields}


# Reports


def test_a_report() -> None:
    rows, errors = read(
        report(
            presentedForm=[attachment("The lungs are clear.")],
            conclusion="Normal film of the chest.",
            subject={"reference": "Patient/7"},
        )
    )
    assert rows == [
        {
            "id": "r1",
            "group": "7",
            "text": "The lungs are clear.",
            "target": "Normal film of the chest.",
        }
    ]
    assert errors == []


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"text": narrative("The lungs are clear.")}, "The lungs are clear."),
        (  # a generated narrative repeats the report
            {"presentedForm": [attachment("Clear.")], "text": narrative("Report: clear.")},
            "Clear.",
        ),
        (
            {
                "presentedForm": [attachment("Clear.")],
                "text": narrative("Seen twice.", "additional"),
            },
            "Clear.\nSeen twice.",
        ),
        (  # one report in three formats
            {
                "presentedForm": [
                    attachment("%PDF", "application/pdf"),
                    attachment("<p>Clear HTML.", "text/html"),
                    attachment("Clear."),
                ]
            },
            "Clear.",
        ),
        (  # two parts of one format; the third repeats the first
            {"presentedForm": [attachment("One."), attachment("Two."), attachment("One.")]},
            "One.\nTwo.",
        ),
        (  # what cannot be read does not hide what can
            {
                "presentedForm": [{"url": "Binary/1"}, {"contentType": "text/plain", "data": "?"}],
                "text": narrative("Clear."),
            },
            "Clear.",
        ),
    ],
)
def test_where_the_text_of_a_report_comes_from(fields: dict[str, Any], text: str) -> None:
    rows, errors = read(report(**fields))
    assert [row["text"] for row in rows] == [text]
    assert errors == []


@pytest.mark.parametrize(
    ("text", "conclusion", "left"),
    [
        (
            "FINDINGS: Clear.\nIMPRESSION: Normal film\nof the chest.",
            "Normal film of the chest.",
            "FINDINGS: Clear.",
        ),
        ("Clear. Conclusion: Normal.", "Normal.", "Clear."),
        ("Normal. Clear.", "Normal.", "Normal. Clear."),  # a finding, not the conclusion
        ("Clear. No sign of acute disease. Dr A", "No sign of acute disease.", "Clear.  Dr A"),
        ("Clear.", "", "Clear."),
        ("Size (2.5 cm)", "(2.5 cm) [see a+b*]", "Size (2.5 cm)"),
    ],
)
def test_a_model_does_not_read_the_conclusion(text: str, conclusion: str, left: str) -> None:
    [row] = read(report(presentedForm=[attachment(text)], conclusion=conclusion))[0]
    assert row["text"] == left
    assert row["target"] == (conclusion or None)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p><p>two\n  lines</p>", "One\ntwo lines"),
        ("A<br/>B<br>C", "A\nB\nC"),
        ("&#181;g &micro;g &#xb5;g&nbsp;&lt;b&gt; &amp;amp;", "µg µg µg <b> &amp;"),
        ("p &lt; 0.05", "p < 0.05"),
        (
            "<table><tr><th>Hb</th><td>13</td></tr><tr><td>Na</td><td>140</td></tr></table>",
            "Hb 13\nNa 140",
        ),
        ("<style>p {color: red}</style>text<!-- not shown -->", "text"),
    ],
)
def test_narratives_are_xhtml(html: str, text: str) -> None:
    assert read(report(text=narrative(html)))[0][0]["text"] == text


# Attachments


@pytest.mark.parametrize(
    ("raw", "kind", "text"),
    [
        ("Fièvre", "text/plain", "Fièvre"),
        ("Fièvre", "text/plain;charset=UTF-8", "Fièvre"),
        ("\ufeffFièvre", "text/plain", "Fièvre"),
        ("Fièvre".encode("latin-1"), "Text/Plain; Charset=iso-8859-1", "Fièvre"),
        ("Fièvre".encode("utf-16"), "text/plain; charset=utf-16", "Fièvre"),
        ("<p>Fi&egrave;vre</p><p>39&nbsp;°C", "text/html", "Fièvre\n39 °C"),
        ("<div>Fi&#232;vre</div>", "application/xhtml+xml", "Fièvre"),
        (rb"{\rtf1\ansi Fi\'e8vre}", "text/rtf", "Fièvre"),
        (rb"{\rtf1\ansi Fi\'e8vre}", "application/rtf", "Fièvre"),
        ("Fièvre", None, "Fièvre"),
    ],
)
def test_attachments_that_are_read(raw: str | bytes, kind: str | None, text: str) -> None:
    rows, errors = read(document(attachment(raw, kind)))
    assert rows == [{"id": "d1", "group": None, "text": text}]
    assert errors == []


@pytest.mark.parametrize(
    ("attachments", "why"),
    [
        ([], "no attachment and no narrative"),
        (
            [{"url": "https://server/Binary/1", "contentType": "text/plain"}],
            "its attachment is a URL, which is not fetched",
        ),
        (
            [attachment("%PDF-", "application/pdf")],
            "its attachment is application/pdf, which is not read",
        ),
        (
            [attachment("x", "Jane Doe, 1950")],
            "its attachment is of an unknown type, which is not read",
        ),
        ([{"contentType": "text/plain", "data": "Q2hlc3Q"}], "its attachment is not valid base64"),
        (
            [{"contentType": "text/plain", "data": "Jane Doe!"}],
            "its attachment is not valid base64",
        ),
        (
            [{"contentType": "text/plain", "data": "Q2hl!c3Q="}],
            "its attachment is not valid base64",
        ),
        ([{"contentType": "text/plain", "data": "é"}], "its attachment is not valid base64"),
        (
            [attachment("Fièvre".encode("latin-1"))],
            "its attachment is not text in the charset that it names",
        ),
        (
            [attachment("x", "text/plain; charset=klingon")],
            "its attachment is not text in the charset that it names",
        ),
        ([attachment(b"\0\1PDF")], "its attachment is binary data, although its type is text"),
        (
            [attachment(b"{\\rtf1 cut", "text/rtf")],
            "the RTF is truncated: its last brace is missing; copy it again",
        ),
        ([attachment(" \n")], "an empty attachment"),
        ([attachment("<p></p>", "text/html")], "an empty attachment"),
        ([{"contentType": "text/plain", "data": ""}], "an empty attachment"),
        (["text"], "an empty attachment"),
        ([None], "an empty attachment"),
    ],
)
def test_attachments_that_are_not_read(attachments: list[Any], why: str) -> None:
    rows, errors = read(document(*attachments))
    assert (rows, errors) == ([], [f"a.ndjson:1: FHIR DocumentReference: {why}"])


# Compositions


def test_a_composition_has_sections() -> None:
    nested = {"title": "Vital signs", "text": narrative("<p>BP 120/80</p>")}
    loinc = {"coding": [{"code": "8716-3"}, {"display": "Plan of care"}]}
    sections = [
        {"title": "Chief complaint", "text": narrative("Cough &amp; fever")},
        {"title": "Physical findings", "section": [nested, {"text": narrative("Well")}]},
        {"code": loinc, "text": narrative("Rest")},
        {"title": "Allergies", "emptyReason": {"text": "not asked"}},
        {"title": "Empty", "text": narrative(" ", "empty")},
        "no section",
    ]
    composition = {"resourceType": "Composition", "id": "c1", "section": sections}
    assert read(composition)[0][0]["sections"] == [
        ("CHIEF COMPLAINT", "Cough & fever"),
        ("VITAL SIGNS", "BP 120/80"),
        ("TEXT", "Well"),
        ("PLAN OF CARE", "Rest"),
    ]
    told = {"resourceType": "Composition", "text": narrative("All in one.")}
    assert read(told)[0][0]["sections"] == [("TEXT", "All in one.")]
    assert read({"resourceType": "Composition"})[1] == [
        "a.ndjson:1: FHIR Composition: no section with text"
    ]


# Bundles and other resources


def test_bundles_of_every_kind() -> None:
    one = report(id=None, presentedForm=[attachment("One.")])
    entries = [
        {"fullUrl": "urn:uuid:aa-1", "resource": one, "request": {"method": "POST"}},
        {"fullUrl": "https://server/fhir/DiagnosticReport/b2", "resource": one},
        {"search": {"mode": "include"}, "resource": {"resourceType": "Patient", "id": "7"}},
        {"request": {"method": "DELETE", "url": "DiagnosticReport/3"}},
        {
            "resource": {
                "resourceType": "Bundle",
                "entry": [{"resource": report(text=narrative("In."))}],
            }
        },
        {"resource": None},
        "no entry",
    ]
    left_out = ["FHIR Patient: not a report, a document or a composition"]
    left_out += ["an entry without a resource"] * 3
    for rows in ([{"resourceType": "Bundle", "type": "searchset", "entry": entries}], entries):
        found, errors = read(*rows)
        assert [row["id"] for row in found] == ["aa-1", "b2", "r1"]
        assert [error.partition(": ")[2] for error in errors] == left_out
    deep: dict[str, Any] = report(text=narrative("Deep."))
    for _ in range(5000):
        deep = {"resourceType": "Bundle", "entry": [{"resource": deep}]}
    assert read(deep)[0][0]["text"] == "Deep."


@pytest.mark.parametrize(
    ("resource", "why"),
    [
        (
            {"resourceType": "Observation", "valueString": "Cough"},
            "FHIR Observation: not a report, a document or a composition",
        ),
        (
            {"resourceType": "Jane Doe"},
            "FHIR resource of an unknown type: not a report, a document or a composition",
        ),
        ({"resourceType": ["DiagnosticReport"]}, "an entry without a resource"),
        ({"note": "Cough"}, "an entry without a resource"),
        (
            report(status="entered-in-error", conclusion="Wrong patient."),
            "FHIR DiagnosticReport: entered in error",
        ),
        (report(status="cancelled"), "FHIR DiagnosticReport: cancelled"),
        (report(conclusion="Normal."), "FHIR DiagnosticReport: no attachment and no narrative"),
        (
            report(
                conclusion="Normal film of the chest.", text=narrative("Normal film of the chest.")
            ),
            "FHIR DiagnosticReport: no text but its conclusion",
        ),
        (
            report(text={"div": 7}, presentedForm={"data": "x"}),
            "FHIR DiagnosticReport: no attachment and no narrative",
        ),
        (
            document(attachment("x"), status="superseded"),
            "FHIR DocumentReference: superseded by another document",
        ),
        (
            document(attachment("x"), docStatus="entered-in-error"),
            "FHIR DocumentReference: entered in error",
        ),
    ],
)
def test_resources_that_are_left_out(resource: dict[str, Any], why: str) -> None:
    assert read(resource) == ([], [f"a.ndjson:1: {why}"])


# Groups


@pytest.mark.parametrize(
    ("fields", "group"),
    [
        ({"subject": {"reference": "Patient/7"}}, "7"),
        ({"subject": {"reference": "https://server/fhir/Patient/7/_history/2"}}, "7"),
        ({"subject": {"reference": "urn:uuid:7"}}, "7"),
        ({"subject": {"reference": "Patient?identifier=mrn|7"}}, "Patient?identifier=mrn|7"),
        ({"subject": {"identifier": {"system": "mrn", "value": "7"}}}, "7"),
        ({"subject": {"display": "Jane Doe"}}, None),
        ({"subject": {"reference": "#p"}}, None),
        (
            {
                "subject": {"reference": "#p"},
                "contained": [{"id": "p", "identifier": [{"value": "7"}]}],
            },
            "7",
        ),
        (
            {"subject": {"reference": "#p"}, "encounter": {"reference": "Encounter/9"}},
            "encounter 9",
        ),
        ({"encounter": {"reference": "Encounter/9"}}, "encounter 9"),
        ({"context": {"encounter": [{"reference": "Encounter/9"}]}}, "encounter 9"),
        ({"context": {"reference": "Encounter/9"}}, "encounter 9"),
        ({"context": [{"reference": "Encounter/9"}]}, "encounter 9"),
        ({"subject": "Patient/7"}, None),
        ({}, None),
    ],
)
def test_the_group_is_the_patient_or_the_encounter(
    fields: dict[str, Any], group: str | None
) -> None:
    assert read(document(attachment("x"), **fields))[0][0]["group"] == group


# Files and folders


def lines(*resources: Any) -> str:
    return "".join(json.dumps(resource) + "\n" for resource in resources)


def reports(n: int) -> list[dict[str, Any]]:
    """Make reports of four to a patient, with texts that share no run of words."""
    return [
        report(
            id=f"r{i}",
            presentedForm=[attachment(" ".join(f"w{i * 7919 + j}" for j in range(20)))],
            conclusion=f"Conclusion c{i} of d{i}.",
            subject={"reference": f"Patient/p{i // 4}"},
        )
        for i in range(n)
    ]


def bundle(*resources: Any) -> dict[str, Any]:
    entries = [{"fullUrl": f"urn:uuid:{n}", "resource": each} for n, each in enumerate(resources)]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


PATIENT = {"resourceType": "Patient", "id": "p0", "name": [{"family": "Doe"}]}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.ndjson", lines(PATIENT, *reports(2))),
        ("a.jsonl", lines(PATIENT, *reports(2))),
        ("a.json", json.dumps(bundle(PATIENT, *reports(2)))),
        ("a.json", json.dumps(bundle(PATIENT, *reports(2)), indent=2)),
        ("a.json", json.dumps(dict(reversed(bundle(PATIENT, *reports(2)).items())))),
        ("a.json", json.dumps([PATIENT, *reports(2)])),
        ("a.ndjson", lines(bundle(PATIENT, reports(1)[0]), bundle(reports(2)[1]))),
    ],
)
def test_files(name: str, text: str, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / (f"{name}.gz" if zipped else name)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if zipped else data)
    rows, errors, facts = read_shape(path)
    assert [(row["id"], row["group"]) for row in rows] == [("r0", "p0"), ("r1", "p0")]
    [error] = errors
    assert error.endswith("FHIR Patient: not a report, a document or a composition")
    assert "FHIR" in facts


def test_a_single_resource_is_a_record(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(reports(1)[0], indent=1))
    assert [row["id"] for row in read_shape(tmp_path / "a.json")[0]] == ["r0"]


def test_a_bulk_export_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    composition = {
        "resourceType": "Composition",
        "id": "c1",
        "section": [{"text": narrative("S.")}],
    }
    found = {
        "DiagnosticReport.ndjson": lines(*reports(40)),
        "DocumentReference.000.ndjson": lines(document(attachment("One."))),
        "DocumentReference.001.ndjson": lines(document({"url": "Binary/1"}, id="d2")),
        "Composition.ndjson": lines(composition),
        "Patient.ndjson": lines(PATIENT, PATIENT),
    }
    for name, text in found.items():
        (folder / name).write_text(text)
    flags = [f"--source={folder}", f"--out={tmp_path / 'out'}", "--task=summarize", "--show=0"]
    printed = prepared(*flags, "--val_share=0.2", "--test_share=0.2")
    counts = cells(printed, "Records of")
    assert sum(int(row[0]) for row in counts.values()) == 42
    assert sum(int(row[1]) for row in counts.values()) == 10
    reasons = re.findall(r"FHIR\s+(\w+):", printed)
    assert sorted(set(reasons)) == ["DocumentReference", "Patient"]


def test_a_file_without_reports_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "Patient.ndjson"
    path.write_text(lines(PATIENT))
    told = refused(f"--source={path}", f"--out={tmp_path / 'out'}", "--task=text")
    assert told == (
        f"{path} contains no record that can be read: {path}:1: FHIR Patient: not a report, a "
        "document or a composition"
    )


def test_truncated_files_never_raise(tmp_path: Path) -> None:
    for name, text in {
        "a.ndjson": lines(PATIENT, *reports(4)),
        "a.json": json.dumps(bundle(PATIENT, *reports(4)), indent=1),
    }.items():
        path = tmp_path / name
        path.write_text(text)
        assert sum("JSON" in told for told in read_truncated(path)) > 10


def test_memory_does_not_grow_with_a_bundle(tmp_path: Path) -> None:
    def peak(n: int) -> int:
        path = tmp_path / "a.json"
        padding = {"resourceType": "Observation", "note": "x" * 1000}
        path.write_text(json.dumps(bundle(*[padding] * n, *reports(4))))
        tracemalloc.start()
        try:
            rows = sum(1 for _ in iter_rows(path, Reading(lambda _: None)))
            assert rows == 4
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(8000) < peak(4000) + 1_000_000
