"""Read FHIR resources that contain text: DiagnosticReport, DocumentReference, Composition (R4).

Resources arrive as rows of a JSON reader: the lines of a bulk export, or the entries of a bundle.
Field names and types are checked where they are used, because servers differ; whatever is missing
makes a resource shorter, and one without any text is left out with the reason.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from clingpt.base.errors import DataError
from clingpt.data.markup import html_to_text
from clingpt.data.readers.rtf import rtf_to_text
from clingpt.data.readers.text_file import LeftOut, OnBad, Placed, Row
from clingpt.text.records import PASTED

Resource = Mapping[str, Any]

# Types of content that can be read, the plainest first: several attachments of one report are the
# same document in several formats.
READABLE = (
    ("text/plain", "text/markdown"),
    ("text/html", "application/xhtml+xml"),
    ("text/rtf", "application/rtf"),
)
RETRACTED = {"entered-in-error": "entered in error", "cancelled": "cancelled"}
LEAST_WORDS = 4  # of a conclusion that is taken out of its report wherever it occurs

_TYPE = re.compile("[A-Z][A-Za-z]{2,40}")  # of a resource
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
_ENDS_WITH_HEADING = re.compile(
    r"\b(?:impressions?|conclusions?|interpretation|summary|opinion)\s*[:.-]?\s*$", re.IGNORECASE
)


def is_fhir(row: Row) -> bool:
    """Return whether a row is a FHIR resource or an entry of a bundle."""
    resource = row if "resourceType" in row else row.get("resource")
    return isinstance(resource, Mapping) and isinstance(resource.get("resourceType"), str)


def iter_fhir(rows: Iterable[Placed], on_bad: OnBad) -> Iterator[Placed]:
    """Yield a row for each resource with text: id, group, and text and target, or sections.

    Other resources are counted by `on_bad`, with their type or the reason.
    """
    for place, row in rows:
        for resource, url in _resources(row):
            try:
                found = _row(resource, url)
            except LeftOut as reason:
                on_bad(LeftOut(f"{place}: {reason}"))
            else:
                yield place, found


def _resources(row: Row) -> Iterator[tuple[Resource, object]]:
    """Yield a resource, that of an entry, or those of a bundle, each with its address if known.

    Without recursion, because a file may nest bundles deeper than Python's stack.
    """
    waiting: list[tuple[Any, object]] = [(row, None)]
    while waiting:
        each, url = waiting.pop()
        if _get(each, "resourceType") == "Bundle":
            waiting += [(entry, None) for entry in reversed(_list(each.get("entry")))]
        elif _get(each, "resourceType") is None and _get(each, "resource") is not None:
            waiting.append((each["resource"], each.get("fullUrl")))
        else:
            yield each if isinstance(each, Mapping) else {}, url


def _row(resource: Resource, url: object) -> Row:
    kind = resource.get("resourceType")
    if not isinstance(kind, str):
        raise LeftOut("an entry without a resource")
    read = _READERS.get(kind)
    if read is None:
        name = kind if _TYPE.fullmatch(kind) else "resource of an unknown type"
        raise LeftOut(f"FHIR {name}: not a report, a document or a composition")
    for field in ("status", "docStatus"):
        if (status := _text(resource.get(field))) in RETRACTED:
            raise LeftOut(f"FHIR {kind}: {RETRACTED[status]}")
    try:
        content = read(resource)
    except DataError as reason:
        raise LeftOut(f"FHIR {kind}: {reason}") from None
    name = _text(resource.get("id")) or _text(url).rpartition("/")[2].removeprefix("urn:uuid:")
    return {"id": name or None, "group": _group(resource), **content}


def _report(resource: Resource) -> Row:
    """Read a DiagnosticReport: its conclusion is what a model writes, the rest what it reads."""
    texts, why = _attached(_list(resource.get("presentedForm")))
    narrative = resource.get("text")
    in_words = _narrative(narrative)
    # A narrative repeats the resource in words, unless its status says that it adds something.
    if in_words and (not texts or _get(narrative, "status") == "additional"):
        texts.append(in_words)
    conclusion = _text(resource.get("conclusion"))
    text = "\n".join(_without_conclusion(each, conclusion) for each in texts).strip()
    if not text:
        raise DataError("no text but its conclusion" if texts else why)
    return {"text": text, "target": conclusion or None}


def _document(resource: Resource) -> Row:
    """Read a DocumentReference: the text of its attachment."""
    if _text(resource.get("status")) == "superseded":
        raise DataError("superseded by another document")
    contents = _list(resource.get("content"))
    texts, why = _attached([_get(content, "attachment") for content in contents])
    if not texts:
        raise DataError(why)
    return {"text": "\n".join(texts)}


def _composition(resource: Resource) -> Row:
    """Read a Composition: its sections, nested ones after the one that contains them."""
    sections = list(_sections(resource.get("section")))
    if not sections and (in_words := _narrative(resource.get("text"))):
        sections = [(PASTED, in_words)]
    if not sections:
        raise DataError("no section with text")
    return {"sections": sections}


_READERS = {
    "DiagnosticReport": _report,
    "DocumentReference": _document,
    "Composition": _composition,
}


def _sections(sections: object) -> Iterator[tuple[str, str]]:
    waiting = _list(sections)[::-1]
    while waiting:
        section = waiting.pop()
        label = _text(_get(section, "title")) or _concept(_get(section, "code"))
        if text := _narrative(_get(section, "text")):
            yield label.upper() or PASTED, text
        waiting += _list(_get(section, "section"))[::-1]


def _concept(code: object) -> str:
    """Return the name of a CodeableConcept."""
    displays = (_text(_get(coding, "display")) for coding in _list(_get(code, "coding")))
    return _text(_get(code, "text")) or next(filter(None, displays), "")


def _narrative(narrative: object) -> str:
    """Return the text of a Narrative, whose div is XHTML."""
    return _html(_text(_get(narrative, "div")))


def _html(text: str) -> str:
    """Return the text of a whole page, where a line break in the source is only a space."""
    lines = html_to_text(text.replace("\n", " ")).split("\n")
    return "\n".join(filter(None, (" ".join(line.split()) for line in lines)))


# Attachments


def _attached(attachments: Sequence[object]) -> tuple[list[str], str]:
    """Return the texts in the plainest readable type, or no text and the reason."""
    texts: dict[int, list[str]] = {}
    reasons = []
    for attachment in attachments:
        try:
            rank, text = _attachment_text(attachment)
        except DataError as reason:
            reasons.append(str(reason))
        else:
            texts.setdefault(rank, []).append(text)
    if not texts:
        return [], reasons[0] if reasons else "no attachment and no narrative"
    return list(dict.fromkeys(texts[min(texts)])), ""


def _attachment_text(attachment: object) -> tuple[int, str]:
    """Return the rank of an attachment's type in READABLE, and its text."""
    content_type = _text(_get(attachment, "contentType")).lower()
    media = content_type.partition(";")[0].strip() or "text/plain"
    encoded = _text(_get(attachment, "data"))
    if not encoded:
        has_url = _get(attachment, "url") is not None
        raise DataError(
            "its attachment is a URL, which is not fetched" if has_url else "an empty attachment"
        )
    rank = next((rank for rank, types in enumerate(READABLE) if media in types), None)
    if rank is None:
        shown = media if _MEDIA_TYPE.fullmatch(media) else "of an unknown type"
        raise DataError(f"its attachment is {shown}, which is not read")
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise DataError("its attachment is not valid base64") from None
    if rank == 2:
        text = rtf_to_text(data)
    else:
        text = _decoded(data, content_type)
        text = _html(text) if rank == 1 else text
    if not text.strip():
        raise DataError("an empty attachment")
    return rank, text


def _decoded(data: bytes, content_type: str) -> str:
    """Decode text in the charset that its type names, which is UTF-8 if it names none."""
    found = _CHARSET.search(content_type)
    charset = found[1] if found else "utf-8"
    try:
        text = data.decode("utf-8-sig" if charset in ("utf-8", "utf8") else charset)
    except (UnicodeError, LookupError):
        raise DataError("its attachment is not text in the charset that it names") from None
    if "\0" in text:
        raise DataError("its attachment is binary data, although its type is text")
    return text


def _without_conclusion(text: str, conclusion: str) -> str:
    """Take the conclusion, and the heading before it, out of a report that repeats it.

    A model that reads the conclusion learns to copy it. A short one ("Normal.") is taken out only
    after its heading, because elsewhere it may be part of a finding.
    """
    words = conclusion.split()
    if not words:
        return text
    pattern = re.compile(r"\s+".join(map(re.escape, words)))
    kept, end = [], 0
    for found in pattern.finditer(text):
        before = text[end : found.start()]
        headed = _ENDS_WITH_HEADING.search(before)
        if headed or len(words) >= LEAST_WORDS:
            kept.append(before[: headed.start()] if headed else before)
            end = found.end()
    return "".join([*kept, text[end:]]).strip()


# Patients


def _group(resource: Resource) -> str | None:
    """Return the patient that a resource is about, else its encounter; None if neither is known."""
    if subject := _referenced(resource.get("subject"), resource):
        return subject
    context = resource.get("context")
    for place in (resource.get("encounter"), _get(context, "encounter"), context):
        references = place if isinstance(place, list) else [place]
        for reference in references:
            if encounter := _referenced(reference, resource):
                return f"encounter {encounter}"
    return None


def _referenced(reference: object, resource: Resource) -> str:
    """Return the id that a Reference names, in whatever form it is written; "" if none.

    Patient/7, https://server/fhir/Patient/7/_history/2 and urn:uuid:7 name the same patient. A
    reference to a contained resource (#p) means nothing outside it, so its identifier counts.
    """
    address = _text(_get(reference, "reference"))
    if address.startswith("#"):
        inside = _list(resource.get("contained"))
        found = next((each for each in inside if _get(each, "id") == address[1:]), None)
        return _identifier(_list(_get(found, "identifier")))
    address = address.partition("/_history/")[0].rstrip("/")
    name = address if "?" in address else address.rpartition("/")[2].removeprefix("urn:uuid:")
    return name or _identifier([_get(reference, "identifier")])


def _identifier(identifiers: Sequence[object]) -> str:
    values = (_text(_get(each, "value")) for each in identifiers)
    return next(filter(None, values), "")


# Values of any type


def _get(value: object, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
