"""Read abstracts from PubMed: XML, or MEDLINE's text form for reference managers (.nbib).

An abstract becomes its labelled sections, without the conclusion, which is the target. A title that
ends in a question mark is the question. Records without an abstract are left out and counted.
"""

import re
import zlib
from collections.abc import Iterator
from gzip import BadGzipFile
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from clingpt.base import console
from clingpt.base.errors import DataError
from clingpt.data.readers.reading import Reading
from clingpt.data.readers.sections import Sections, divide, is_conclusion, set_apart
from clingpt.data.readers.text_file import (
    UNDECODED,
    LeftOut,
    OnBad,
    Placed,
    Row,
    TextFile,
    open_bytes,
    open_text,
)
from clingpt.text.records import PASTED

ARTICLES = ("PubmedArticle", "PubmedBookArticle", "MedlineCitation")
ROOTS = ("PubmedArticleSet", "PubmedBookArticleSet", "MedlineCitationSet", *ARTICLES)
OTHER_ROOTS = {  # of files that may be mistaken for PubMed's
    "ClinicalDocument": "a C-CDA document",
    "article": "a full article (JATS)",
    "Bundle": "FHIR in XML; export it as JSON or NDJSON",
    "eSearchResult": "a list of PMIDs, not the articles: fetch them with efetch",
}
FHIR_NAMESPACE = b"http://hl7.org/fhir"
HEAD_BYTES = 64 << 10  # of XML, to find its root element
# Sections that PubMed counts among the conclusions, but that conclude nothing.
NO_CONCLUSION = re.compile(
    r"REGISTR|FUNDING|EVIDENCE|PROSPERO|TRIAL N|COPYRIGHT|DISCLOSURE|CONFLICT|KEYWORD|SUPPLEMENT"
)
UNLABELLED = ("UNLABELLED", "UNASSIGNED", "ABSTRACT")

_ROOT = re.compile(rb"<(?![?!])(?:[\w.-]+:)?([\w.-]+)")
_TRUNCATED = re.compile(r"\s*\(ABSTRACT TRUNCATED(?: AT \d+ WORDS)?\)\s*$")
_COPYRIGHT = re.compile(
    r"\s*(?:Copyright\s*)?(?:\u00a9|\([cC]\)|Copyright)\s*(?:\d{4}|The Author|by )[^\n]{0,200}$"
)
_TRANSLATED = re.compile(r"\[(.+?)\](\??)\.?")
_FIELD = re.compile(r"([A-Z][A-Z0-9 ]{3})- ?(.*)")
_LEVELS = {"sup", "sub"}  # super- and subscripts, also those of MathML


# XML


def read_pubmed(path: Path, reading: Reading) -> Iterator[Placed]:
    """Yield a row for each article with an abstract; its place is its number in the file.

    Elements are freed as they are read, so that memory does not grow with the file. Neither a DTD
    nor any other file that the XML names is fetched.
    """
    check_root(path)
    number = 0
    for element in _elements(path):
        if element.tag == "DeleteCitation":
            pmids = console.count(len(element.findall("PMID")), "deleted PMID")
            reading.on_bad(LeftOut(f"{path}: a list of {pmids} (DeleteCitation), not applied"))
            continue
        number += 1
        try:
            yield f"{path}:{number}", _article(element)
        except LeftOut as reason:
            reading.on_bad(LeftOut(f"{path}:{number}: {reason}"))
    if not number:
        raise DataError(f"{path} contains no article; is it the right file?")


def check_root(path: Path) -> None:
    """Raise DataError, which says what a file is, unless it is PubMed's XML."""
    try:
        with open_bytes(path) as file:
            head = file.read(HEAD_BYTES)
    except (EOFError, zlib.error, BadGzipFile) as error:
        raise DataError(f"{path} is damaged or not gzip ({error}); copy it again") from None
    plain = re.sub(rb"<!--.*?-->", b"", head.replace(b"\0", b""), flags=re.DOTALL)  # also UTF-16
    found = _ROOT.search(plain)
    if b"<!ENTITY" in (plain[: found.start()] if found else plain):
        raise DataError(
            f"{path} declares XML entities, which may expand without bounds, and PubMed's files "
            "declare none; is it the right file?"
        )
    name = found[1].decode("ascii", "replace") if found else ""
    if name in ROOTS:
        return
    known = "Bundle" if FHIR_NAMESPACE in plain else name
    what = OTHER_ROOTS.get(known) or (f"XML with the root <{name[:40]}>" if found else "not XML")
    raise DataError(f"{path} is {what}; the only XML that is read is PubMed's (PubmedArticleSet)")


def _elements(path: Path) -> Iterator[Element]:
    """Yield each article and list of deleted articles as a whole, and free it afterwards."""
    root: Element | None = None
    whole: Element | None = None  # the element that is being read, to be yielded at its end
    try:
        with open_bytes(path) as file:
            for event, element in ElementTree.iterparse(file, events=("start", "end")):
                if event == "start":
                    root = element if root is None else root
                    if whole is None and element.tag in (*ARTICLES, "DeleteCitation"):
                        whole = element
                elif whole is not None and element is whole:
                    yield whole
                    whole = None
                    assert root is not None
                    root.clear()
    except ElementTree.ParseError as error:
        place, problem = f"{path}:{error.position[0]}", error.msg.partition(":")[0]
        if problem == "junk after document element":
            raise DataError(
                f"{place}: another document starts here; keep one XML document per file"
            ) from None
        raise DataError(
            f"{place}: the XML is damaged or truncated near here ({problem}); copy it again"
        ) from None
    except (EOFError, zlib.error, BadGzipFile) as error:
        raise DataError(f"{path}: damaged or truncated ({error}); copy it again") from None
    except (LookupError, ValueError) as error:
        raise DataError(f"{path} cannot be read as XML ({error})") from None


def _article(element: Element) -> Row:
    citation = _first(element, "MedlineCitation", "BookDocument")
    article = _first(citation, "Article")
    texts = []
    for part in article.iterfind("Abstract/AbstractText"):
        if text := _cleaned(plain_text(part)):
            label = part.get("Label", "").upper()
            texts.append(("" if label in UNLABELLED else label, part.get("NlmCategory", ""), text))
    if len(texts) == 1 and not texts[0][0]:
        texts = [(label, "", text) for label, text in divide(texts[0][2])]
    if not texts:
        elsewhere = citation.find("OtherAbstract") is not None
        raise LeftOut("an abstract in another language only" if elsewhere else "no abstract")
    title = article.find("ArticleTitle")
    return _row(
        citation.findtext("PMID"),
        "" if title is None else plain_text(title),
        [(label, text) for label, _, text in texts],
        [concludes(label, category) for label, category, _ in texts],
        [
            name.text or ""
            for name in citation.iterfind("MeshHeadingList/MeshHeading/DescriptorName")
        ],
    )


def _first(element: Element, *names: str) -> Element:
    """Return the first child of one of these names; the element itself if it has none."""
    children = (child for child in element if child.tag in names)
    return next(children, element)


def concludes(label: str, category: str) -> bool:
    """Return whether a section is the conclusion, by its label or by PubMed's category."""
    if is_conclusion(label):
        return True
    return category == "CONCLUSIONS" and not (NO_CONCLUSION.search(label) or "RESULT" in label)


def plain_text(element: Element) -> str:
    """Return an element's text without markup.

    Super- and subscripts are in brackets, as in MEDLINE's own text form: 10(3) is not 103.
    """
    if not len(element):
        return " ".join((element.text or "").split())
    parts: list[str] = []
    waiting: list[Element | str] = [element]
    while waiting:  # without recursion, because a file may nest elements deeper than Python's stack
        each = waiting.pop()
        if isinstance(each, str):
            parts.append(each)
        else:
            waiting += reversed(_pieces(each))
    return " ".join("".join(parts).split())


def _pieces(element: Element) -> list[Element | str]:
    """List an element's text, its children, and the texts after them, in order."""
    name = element.tag.rpartition("}")[2]
    if name.startswith("annotation"):  # a formula again, in TeX
        return []
    pieces: list[Element | str] = [element.text or ""]
    for number, child in enumerate(element):
        before, after = "", ""
        if name == "mfrac" and number:
            before = "/"
        elif child.tag in _LEVELS or name in ("msup", "msub") and number:
            before, after = "(", ")"
        pieces += [before, child, after, child.tail or ""]
    return pieces


# The text form


def read_medline(path: Path, reading: Reading) -> Iterator[Placed]:
    """Yield a row for each record with an abstract, from fields such as `AB  - `."""
    with open_text(path, reading.options.encoding) as file:
        yield from _iter_medline(file, reading.on_bad)


def _iter_medline(file: TextFile, on_bad: OnBad) -> Iterator[Placed]:
    for line, fields in _records(file):
        place = f"{file.path}:{line}"
        if any(UNDECODED in text for texts in fields.values() for text in texts):
            on_bad(file.undecoded(line))
            continue
        abstract = _cleaned(" ".join(fields.get("AB", [])))
        if not abstract:
            elsewhere = "OAB" in fields
            why = "an abstract in another language only" if elsewhere else "no abstract"
            on_bad(LeftOut(f"{place}: {why}"))
            continue
        sections = divide(abstract)
        yield (
            place,
            _row(
                fields["PMID"][0],
                " ".join(fields.get("TI") or fields.get("BTI", [])),
                sections,
                [is_conclusion(label) for label, _ in sections],
                [term.partition("/")[0].strip("*") for term in fields.get("MH", [])],
            ),
        )


def _records(file: TextFile) -> Iterator[tuple[int, dict[str, list[str]]]]:
    """Yield the first line and the fields of each record; a field may be repeated."""
    start, fields, tag = 0, dict[str, list[str]](), ""
    for line, raw in file.lines():
        text = raw.rstrip()
        found = _FIELD.fullmatch(text)
        if found and found[1] == "PMID":
            if fields:
                yield start, fields
            start, fields = line, {}
        if found:
            tag = found[1].strip()
            fields.setdefault(tag, []).append(found[2])
        elif text.startswith("      ") and fields:
            fields[tag][-1] += f" {text.strip()}"
        elif text.strip("\ufeff"):
            raise DataError(
                f"{file.path}:{line}: not a line of MEDLINE's text form, where fields look like "
                "'AB  - ' and are continued after six spaces"
            )
        if fields and "PMID" not in fields:
            raise DataError(
                f"{file.path}:{line}: a record of MEDLINE's text form starts with PMID-"
            )
    if not fields:
        raise DataError(f"{file.path} contains no record; is it the right file?")
    yield start, fields


# Both forms


def _row(
    pmid: str | None, title: str, sections: Sections, is_target: list[bool], terms: list[str]
) -> Row:
    title = title.strip()
    if found := _TRANSLATED.fullmatch(title):
        title = found[1].strip() + found[2]
    row = set_apart([(label or PASTED, text) for label, text in sections], is_target)
    return {
        "id": (pmid or "").strip() or None,
        "question": title if title.endswith("?") else None,
        **row,
        "keywords": list(dict.fromkeys(filter(None, terms))),
        "title": title or None,
    }


def _cleaned(text: str) -> str:
    """Take out the copyright line at the end, and the note that an old abstract was cut."""
    text = _TRUNCATED.sub("", text) if text.endswith(")") else text
    end = text[-300:]  # searching every text with the pattern is slow
    if "opyright" in end or "\u00a9" in end or "(c)" in end.lower():
        text = _COPYRIGHT.sub("", text)
    return text.strip()
