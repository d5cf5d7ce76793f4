"""PubMed: XML and MEDLINE's text form, and what is refused of both."""

import gzip
import tracemalloc
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from clingpt.base.errors import DataError
from clingpt.data.readers.pubmed import read_pubmed
from clingpt.data.readers.reading import Reading
from tests.helpers.preparing import cells, prepared, refused
from tests.helpers.rows import read, refusal

Found = tuple[list[dict[str, Any]], list[str]]
DOCTYPE = (
    '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMed'
    'Article//EN" "https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd">\n'
)
METHODS = ("METHODS", "METHODS", "Forty adults.")
RESULTS = ("RESULTS", "RESULTS", "Pain fell.")


def abstract(*parts: tuple[str, str, str]) -> str:
    """Write labelled parts: label, category and text, which may have markup."""
    texts = []
    for label, category, text in parts:
        labels = f' Label="{escape(label)}"' if label else ""
        labels += f' NlmCategory="{category}"' if category else ""
        texts.append(f"<AbstractText{labels}>{text}</AbstractText>")
    texts.append("<CopyrightInformation>© 2020 X</CopyrightInformation>")
    return f"<Abstract>{''.join(texts)}</Abstract>"


def article(content: str, title: str = "Pain.", pmid: str = "7", mesh: str = "") -> str:
    return (
        f'<PubmedArticle><MedlineCitation><PMID Version="1">{pmid}</PMID><Article>'
        f"<Journal><Title>J</Title></Journal><ArticleTitle>{title}</ArticleTitle>{content}"
        f"<AuthorList><Author><LastName>Doe</LastName></Author></AuthorList></Article>{mesh}"
        "</MedlineCitation><PubmedData><ReferenceList><Reference><Citation>Roe</Citation>"
        "<ArticleIdList/></Reference></ReferenceList></PubmedData></PubmedArticle>"
    )


def article_set(*articles: str) -> str:
    return f"{DOCTYPE}<PubmedArticleSet>\n{''.join(articles)}\n</PubmedArticleSet>\n"


def read_text(text: str, tmp_path: Path) -> Found:
    """Read XML from a string."""
    path = tmp_path / "a.xml"
    path.write_text(text, "utf-8")
    return read(path)


def refused_text(data: str | bytes, tmp_path: Path, name: str = "a.xml") -> str:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return refusal(path)


# XML


def test_a_structured_abstract(tmp_path: Path) -> None:
    headings = ["Pain", "Aged, 80 and over", "Pain"]
    mesh = "".join(
        f"<MeshHeading><DescriptorName>{name}</DescriptorName><QualifierName>therapy"
        "</QualifierName></MeshHeading>"
        for name in headings
    )
    parts = abstract(METHODS, RESULTS, ("CONCLUSIONS", "CONCLUSIONS", "It helps."))
    one = article(parts, "Does it help?", mesh=f"<MeshHeadingList>{mesh}</MeshHeadingList>")
    rows, errors = read_text(article_set(one), tmp_path)
    assert errors == []
    assert rows == [
        {
            "id": "7",
            "question": "Does it help?",
            "sections": [("METHODS", "Forty adults."), ("RESULTS", "Pain fell.")],
            "target": "It helps.",
            "keywords": ["Pain", "Aged, 80 and over"],
            "title": "Does it help?",
        }
    ]


@pytest.mark.parametrize(
    ("parts", "sections", "target"),
    [
        ([("", "", "One paragraph.")], [("TEXT", "One paragraph.")], None),
        (
            [("", "", "BACKGROUND: Pain is common. RESULTS: It fell. CONCLUSION: It helps.")],
            [("BACKGROUND", "Pain is common."), ("RESULTS", "It fell.")],
            "It helps.",
        ),
        (
            [("", "", "Pain is common. RESULTS: It fell. CONCLUSION: It helps.")],
            [("TEXT", "Pain is common."), ("RESULTS", "It fell.")],
            "It helps.",
        ),
        (
            [("", "", "Pain is common. CONCLUSION: a word in prose.")],
            [("TEXT", "Pain is common. CONCLUSION: a word in prose.")],
            None,
        ),
        (  # two sections conclude: one by its label, one by PubMed's category
            [
                RESULTS,
                ("Interpretation", "", "It helps."),
                ("CLINICAL RELEVANCE", "CONCLUSIONS", "Use it."),
                ("TRIAL REGISTRATION", "CONCLUSIONS", "NCT00000001."),
            ],
            [("RESULTS", "Pain fell."), ("TRIAL REGISTRATION", "NCT00000001.")],
            "It helps. Use it.",
        ),
        (
            [METHODS, ("RESULTS AND CONCLUSIONS", "CONCLUSIONS", "Fell. Helps.")],
            [("METHODS", "Forty adults."), ("RESULTS AND CONCLUSIONS", "Fell. Helps.")],
            None,
        ),
        ([("CONCLUSION", "CONCLUSIONS", "It helps.")], [("CONCLUSION", "It helps.")], None),
        (
            [("UNLABELLED", "UNASSIGNED", "One."), RESULTS],
            [("TEXT", "One."), ("RESULTS", "Pain fell.")],
            None,
        ),
        ([("AIM", "OBJECTIVE", ""), RESULTS], [("RESULTS", "Pain fell.")], None),
        (
            [("", "", "Text. Copyright © 2010 Elsevier Ltd. All rights reserved.")],
            [("TEXT", "Text.")],
            None,
        ),
        ([("", "", "Text. (c) 2010 The Authors.")], [("TEXT", "Text.")], None),
        ([("", "", "Text.(ABSTRACT TRUNCATED AT 250 WORDS)")], [("TEXT", "Text.")], None),
        ([("", "", "Copyright law was studied.")], [("TEXT", "Copyright law was studied.")], None),
    ],
)
def test_sections_and_conclusion(
    parts: list[tuple[str, str, str]],
    sections: list[tuple[str, str]],
    target: str | None,
    tmp_path: Path,
) -> None:
    rows, errors = read_text(article_set(article(abstract(*parts))), tmp_path)
    assert errors == []
    assert (rows[0]["sections"], rows[0]["target"]) == (sections, target)


MATHML = 'xmlns:m="http://www.w3.org/1998/Math/MathML"'


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<i>In vitro</i>, <b>bold</b><u>face</u>.", "In vitro, boldface."),
        ("10<sup>3</sup> H<sub>2</sub>O &lt; 5&#xb5;g", "10(3) H(2)O < 5µg"),
        ("a <i>b <sup>c<sub>d</sub></sup></i> e", "a b (c(d)) e"),
        ("\n  line\n  break ", "line break"),
        (f"<m:math {MATHML}><m:msup><m:mi>x</m:mi>\n<m:mn>2</m:mn></m:msup></m:math> x", "x (2) x"),
        (f"<m:math {MATHML}><m:mfrac><m:mi>a</m:mi><m:mi>b</m:mi></m:mfrac></m:math>", "a/b"),
        (f"<m:math {MATHML}><m:mi>p</m:mi><m:annotation>\\TeX</m:annotation></m:math>", "p"),
        ("<!-- note -->A<?x y?>B", "AB"),
        ("<i>" * 3000 + "deep" + "</i>" * 3000, "deep"),
    ],
)
def test_markup_within_a_text(markup: str, text: str, tmp_path: Path) -> None:
    [row] = read_text(article_set(article(abstract(("", "", markup)))), tmp_path)[0]
    assert row["sections"] == [("TEXT", text)]


@pytest.mark.parametrize(
    ("title", "question"),
    [
        ("Does it help?", "Does it help?"),
        ("[Does it help?].", "Does it help?"),
        ("[Does it help]?", "Does it help?"),
        ("Does <i>H. pylori</i> matter?", "Does H. pylori matter?"),
        ("Does it help? A trial.", None),
        ("It helps.", None),
        ("", None),
    ],
)
def test_a_title_that_asks_is_the_question(
    title: str, question: str | None, tmp_path: Path
) -> None:
    [row] = read_text(article_set(article(abstract(RESULTS), title)), tmp_path)[0]
    assert row["question"] == question


def test_books_and_old_sets(tmp_path: Path) -> None:
    book = (
        "<PubmedBookArticle><BookDocument><PMID>9</PMID><Book><BookTitle>B</BookTitle></Book>"
        f"<ArticleTitle>Is it rare?</ArticleTitle>{abstract(RESULTS)}</BookDocument>"
        "</PubmedBookArticle>"
    )
    old = f"<ArticleTitle>A</ArticleTitle>{abstract(RESULTS)}"
    old = f"<MedlineCitation><PMID>8</PMID><Article>{old}</Article></MedlineCitation>"
    rows = read_text(article_set(book, article(abstract(RESULTS))), tmp_path)[0]
    assert [(row["id"], row["question"]) for row in rows] == [("9", "Is it rare?"), ("7", None)]
    for text in (
        f"<MedlineCitationSet>{old}</MedlineCitationSet>",
        old,
        article(abstract(RESULTS), pmid="8"),
    ):
        assert [row["id"] for row in read_text(text, tmp_path)[0]] == ["8"]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    other = '<OtherAbstract Language="fre"><AbstractText>Texte.</AbstractText></OtherAbstract>'
    foreign = article("").replace("</MedlineCitation>", f"{other}</MedlineCitation>")
    deleted = "<DeleteCitation><PMID>1</PMID><PMID>2</PMID></DeleteCitation>"
    articles = [
        article(""),
        article(abstract(RESULTS)),
        foreign,
        article(abstract(("", "", " "))),
        deleted,
    ]
    rows, errors = read_text(article_set(*articles), tmp_path)
    assert len(rows) == 1
    assert errors == [
        "a.xml:1: no abstract",
        "a.xml:3: an abstract in another language only",
        "a.xml:4: no abstract",
        "a.xml: a list of 2 deleted PMIDs (DeleteCitation), not applied",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<article><front/></article>", "a full article (JATS)"),
        ('<ClinicalDocument xmlns="urn:hl7-org:v3"/>', "a C-CDA document"),
        ('<Bundle xmlns="http://hl7.org/fhir"/>', "FHIR in XML; export it as JSON or NDJSON"),
        ('<f:Patient xmlns:f="http://hl7.org/fhir"/>', "FHIR in XML"),
        ("<eSearchResult><Count>3</Count></eSearchResult>", "a list of PMIDs, not the articles"),
        ("<!-- <PubmedArticleSet> --><records/>", "XML with the root <records>"),
        ("just text", "not XML"),
        ("", "not XML"),
        ("a < b", "not XML"),
    ],
)
def test_other_xml_is_refused_by_its_name(text: str, why: str, tmp_path: Path) -> None:
    told = refused_text(text, tmp_path)
    assert told.startswith(f"a.xml is {why}")
    assert told.endswith("; the only XML that is read is PubMed's (PubmedArticleSet)")


def test_entities_are_refused_before_they_grow(tmp_path: Path) -> None:
    """A billion laughs, in the prolog or in an external file that must not be opened."""
    grown = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    whole = article_set(article(abstract(("", "", "&l9;"))))
    start = whole.index("<PubmedArticleSet>")
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "ha">{grown}]>{whole[start:]}'
    assert "declares XML entities" in refused_text(bomb, tmp_path)
    assert "declares XML entities" in refused_text(bomb.encode("utf-16"), tmp_path)
    padded = bomb.replace("<!ENTITY", f"<!-- {'x' * 70_000} --><!ENTITY", 1)
    assert "a.xml is not XML" in refused_text(padded, tmp_path)
    (tmp_path / "secret").write_text("secret")
    named = f'<!DOCTYPE x SYSTEM "{tmp_path}/secret.dtd">{whole[start:]}'
    (tmp_path / "secret.dtd").write_text('<!ENTITY l9 "secret">')
    assert "undefined entity" in refused_text(named, tmp_path)


def test_damaged_files_are_refused_in_a_line(tmp_path: Path) -> None:
    data = article_set(
        *(article(abstract(METHODS, RESULTS), pmid=str(n)) for n in range(4))
    ).encode()
    for end in range(0, len(data) - 1, 50):
        told = refused_text(data[:end], tmp_path)
        assert "truncated near here" in told or "not XML" in told, told
    zipped = gzip.compress(data, mtime=0)
    for end in range(0, len(zipped), 50):
        told = refused_text(zipped[:end], tmp_path, "a.xml.gz")
        assert "truncated" in told or "not XML" in told or "not gzip" in told, told
    many = (article(abstract(METHODS, RESULTS), pmid=str(n * 7919)) for n in range(400))
    zipped = gzip.compress(article_set(*many).encode(), mtime=0)
    assert "damaged or truncated (" in refused_text(
        zipped[: len(zipped) // 2], tmp_path, "a.xml.gz"
    )
    assert "another document starts here" in refused_text(data + data, tmp_path)
    assert "not well-formed" in refused_text(
        data.replace(b"Pain fell", b"Pain \xff fell"), tmp_path
    )
    assert "unknown encoding" in refused_text(data.replace(b"utf-8", b"klingon"), tmp_path)
    assert "contains no article" in refused_text(b"<PubmedArticleSet/>", tmp_path)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(n: int) -> int:
        path = tmp_path / "a.xml.gz"
        text = article_set(*(article(abstract(METHODS, RESULTS), pmid=str(i)) for i in range(n)))
        path.write_bytes(gzip.compress(text.encode(), 1))
        tracemalloc.start()
        try:
            for _ in read_pubmed(path, Reading(print)):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(2000) < peak(100) + 100_000


# The text form


def read_medline(text: str, tmp_path: Path) -> Found:
    path = tmp_path / "a.nbib"
    path.write_text(text, "utf-8")
    return read(path)


RECORD = """\
PMID- 7
OWN - NLM
TI  - [Does it
      help?].
AB  - BACKGROUND: Pain is common in HIV. AIDS: a note. METHODS: Forty adults,
      (n = 20). STUDY DESIGN: Trial. CONCLUSIONS: It helps. Copyright (c) 2010
      Elsevier Ltd. All rights reserved.
CI  - Copyright 2010.
FAU - Doe, Jane
MH  - *Pain/drug therapy
MH  - Aged, 80 and over
MH  - Pain/*etiology
"""


def test_a_record_of_the_text_form(tmp_path: Path) -> None:
    for text in (RECORD, f"\n{RECORD}", f"\ufeff{RECORD}", RECORD.replace("\n", "\r\n")):
        rows, errors = read_medline(text, tmp_path)
        assert errors == []
        assert rows == [
            {
                "id": "7",
                "question": "Does it help?",
                "sections": [
                    ("BACKGROUND", "Pain is common in HIV. AIDS: a note."),
                    ("METHODS", "Forty adults, (n = 20)."),
                    ("STUDY DESIGN", "Trial."),
                ],
                "target": "It helps.",
                "keywords": ["Pain", "Aged, 80 and over"],
                "title": "Does it help?",
            }
        ]


def test_records_without_an_abstract(tmp_path: Path) -> None:
    text = f"{RECORD}\nPMID- 8\nTI  - Letter.\n\nPMID- 9\nOAB - Texte.\n\n{RECORD}"
    rows, errors = read_medline(text, tmp_path)
    assert len(rows) == 2
    assert errors == ["a.nbib:14: no abstract", "a.nbib:17: an abstract in another language only"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "a.nbib contains no record"),
        ("note,summary\n", "a.nbib:1: not a line of MEDLINE's text form"),
        ("TI  - Title\nPMID- 1\n", "a.nbib:1: a record of MEDLINE's text form starts with PMID-"),
        ("      more\n", "a.nbib:1: not a line"),
    ],
)
def test_what_is_not_the_text_form(text: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        read_medline(text, tmp_path)
    assert str(raised.value).replace(f"{tmp_path}/", "").startswith(why)


def test_truncated_text_never_raises(tmp_path: Path) -> None:
    for end in range(0, len(RECORD), 11):
        try:
            read_medline(RECORD[:end], tmp_path)
        except DataError as error:
            assert str(error).isprintable()


# Through prepare.py


def test_pubmed_is_published_and_needs_no_columns(tmp_path: Path) -> None:
    folder = tmp_path / "pubmed"
    folder.mkdir()
    for n in range(3):
        articles = [
            article(
                abstract(
                    ("METHODS", "METHODS", f"Dr. Mary Smith saw {n * 100 + i} adults on 3/4/2019."),
                    ("CONCLUSIONS", "CONCLUSIONS", f"It helps {n * 7919 + i} of them."),
                ),
                pmid=str(n * 100 + i),
            )
            for i in range(20)
        ]
        text = article_set(*articles, article("", pmid=f"9{n}"))
        (folder / f"pubmed26n{n}.xml.gz").write_bytes(gzip.compress(text.encode()))
    flags = [f"--source={folder}", f"--out={tmp_path / 'out'}", "--task=summarize", "--show=0"]
    printed = prepared(*flags, "--val_share=0.2")
    assert sum(int(row[0]) for row in cells(printed, "Records of").values()) == 60
    assert cells(printed, "Dropped")["record"][-1] == "3"
    nbib = tmp_path / "a.nbib"
    nbib.write_text(
        "\n".join(RECORD.replace("- 7", f"- {n}").replace("20)", f"{n})") for n in range(30))
    )
    printed = prepared(
        f"--source={nbib}", f"--out={tmp_path / 'out'}", "--show=0", "--allow_overlap"
    )
    assert sum(int(row[0]) for row in cells(printed, "Records of").values()) == 30


def test_a_file_without_abstracts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(article_set(article(""), article("")))
    told = refused(f"--source={path}", f"--out={tmp_path / 'out'}")
    assert told == f"{path} contains no record that can be read: {path}:1: no abstract"
