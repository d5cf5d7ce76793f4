"""Text from HTML: no tag and no entity is left, and nothing that is not a tag is lost."""

import pytest

from clingpt.text.markup import html_to_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p><p>two</p>", "One\ntwo"),
        ('<div xmlns="http://www.w3.org/1999/xhtml">A<br/>B<br>C</div>', "A\nB\nC"),
        ("&#181;g &micro;g &#xb5;g &amp;amp; &lt;b&gt;", "µg µg µg &amp; <b>"),
        ("a&nbsp;b &unknown; c", "a b &unknown; c"),
        ("p < 0.05 and x > 3 & y", "p < 0.05 and x > 3 & y"),
        ("<ul><li>one<li>two</ul>", "one\ntwo"),
        (
            "<table><tr><th>Hb</th><td>13</td></tr><tr><td>Na</td><td>140</td></tr></table>",
            "Hb 13\nNa 140",
        ),
        ("in<i>vi</i>tro and <b>bold</b>face", "invitro and boldface"),
        ("<style>p {color: red}</style><script>x < y</script>text", "text"),
        ("<title>Report</title>text", "text"),
        ("<script/>text", "text"),
        ("one\n  line\n<!-- not shown -->here", "one line here"),
        ("an unclosed <b>tag and <", "an unclosed tag and <"),
        ("", ""),
        ("<p></p>", ""),
    ],
)
def test_html_to_text(html: str, text: str) -> None:
    assert html_to_text(html) == text
