"""HTML in cells becomes text, and the < and & of clinical prose stay."""

from collections import Counter

import pytest

from clingpt.data.cells import rule_for
from clingpt.data.markup import has_html, html_passes, html_to_text

HTML = {
    "<p>An eye&nbsp;at &lt; 10&#160;mmHg.</p><ul><li>Rest</li><li>Sleep</li></ul>": (
        "An eye\xa0at < 10\xa0mmHg.\n\n- Rest\n- Sleep"
    ),
    "one<br/>two<BR>three<br />four": "one\ntwo\nthree\nfour",
    "10<sup>9</sup>/L of H<sub>2</sub>O": "10^9/L of H2O",
    '<a href="x.html" title="a">See</a> <b>this</b>': "See this",
    "a <script>if (x<1) {}</script>b<!-- c --> d": "a b d",
    "BP <120, p<0.05 &amp; <b>n>3</b>": "BP <120, p<0.05 & n>3",
    "&#x3bc;g &para; &foo;": "μg ¶ &foo;",
}


@pytest.mark.parametrize(("html", "text"), HTML.items())
def test_html_becomes_text(html: str, text: str) -> None:
    assert has_html(html)
    assert html_to_text(html) == text


PROSE = [
    "BP <120 and >80; p<0.05 and n>3; <1 year",
    "A&E, AT&T, R&D; Q&A",
    "<patient> was seen by <doctor>",
    "INR <b and PT> 12",
    "120</ 80",
    "&notes and &lt5 without a semicolon",
    "if a<b then c>d",
]


@pytest.mark.parametrize("prose", PROSE)
def test_clinical_prose_is_left_alone(prose: str) -> None:
    assert not has_html(prose)
    assert html_to_text(prose) == prose
    assert not html_passes([prose] * 20)
    # In a column with HTML too.
    rule = rule_for("input", "x", [prose, "<p>Rest.</p>"] * 8)
    assert rule.html == 1
    assert rule.text(prose, Counter()) == prose


def test_a_column_is_html_by_its_sample_and_cells_are_counted() -> None:
    texts = ["<p>Rest.</p>", "Rest."] * 8
    rule, counts = rule_for("target", "x", texts), Counter[tuple[str, str]]()
    assert rule.says == "HTML, as text"
    assert {rule.text(text, counts) for text in texts} == {"Rest."}
    assert counts == {("html", "x"): 8}
    plain, left = rule_for("target", "x", ["Rest."] * 8), Counter[tuple[str, str]]()
    assert plain.text("<p>Rest.</p>", left) == "<p>Rest.</p>"
    assert left == {("html left", "x"): 1}


def test_escaped_html_is_unescaped_first() -> None:
    texts = ["&lt;p&gt;p &amp;lt; 0.05&lt;/p&gt;"] * 12
    rule = rule_for("input", "x", texts)
    assert rule.html == 2
    assert rule.text(texts[0], Counter()) == "p < 0.05"


def test_texts_in_lists_are_html_too() -> None:
    cells = [["<p>a</p>", "b&nbsp;c"]] * 12
    assert rule_for("input", "x", cells).text(cells[0], Counter()) == "a; b\xa0c"
