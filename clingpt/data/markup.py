"""HTML in texts: tags and entities become text; the < and & of clinical prose stay as they are.

Only tags with a known name and entities with a semicolon count. "BP <120", "p<0.05 and n>3",
"<patient>", "A&E" and "AT&T" have none.
"""

import html
import re
from collections.abc import Sequence
from html.parser import HTMLParser

# A paragraph break before and after; a line break; nothing.
BLOCKS = frozenset(
    "p div ul ol dl table tr h1 h2 h3 h4 h5 h6 section article blockquote pre header footer body "
    "html head main thead tbody tfoot figure figcaption form".split()
)
LINES = frozenset("br hr li dt dd caption option".split())
INLINE = frozenset(
    "a b i u s em strong span font small big sub sup code tt td th img input label center mark "
    "abbr cite del ins kbd q samp strike var wbr title meta link script style button".split()
)
TAGS = BLOCKS | LINES | INLINE
HIDDEN = ("script", "style", "title")  # whose content is not text of the page
BARE = frozenset("checked compact disabled nowrap noshade selected hidden readonly".split())

_NAMES = "|".join(sorted(TAGS, key=len, reverse=True))
_TAG = re.compile(rf"</?(?:{_NAMES})(?=[\s/>])[^<>]*>", re.IGNORECASE)
# Certain: an opening tag with its closing one, or a tag that is never closed.
_PAIR = re.compile(
    rf"<({_NAMES})(?:\s[^<>]*)?>.*?</\1\s*>|<(?:br|hr|img)\b[^<>]*>", re.IGNORECASE | re.DOTALL
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_LONE_AMPERSAND = re.compile(rf"&(?!{_ENTITY.pattern[1:]})")
_LONE_BRACKET = re.compile(rf"<(?!!--|/?(?:{_NAMES})(?=[\s/>]))", re.IGNORECASE)


def has_html(text: str) -> bool:
    """Return whether a text has pairs of known tags, or entities."""
    if "<" in text and _PAIR.search(text):
        return True
    return "&" in text and any(html.unescape(each) != each for each in _ENTITY.findall(text))


def html_passes(texts: Sequence[str]) -> int:
    """Return how often the texts of a column have to be read as HTML: 0, 1, or 2 if escaped."""
    found = [text for text in texts if has_html(text)]
    if not found:
        return 0
    once = [html_to_text(text) for text in found]
    return 2 if 2 * sum(map(has_html, once)) > len(once) else 1


def html_to_text(text: str, *, times: int = 1) -> str:
    """Turn tags into line breaks and entities into characters."""
    for _ in range(times):
        if "<" in text or "&" in text:
            parser = _Text()
            parser.feed(_LONE_BRACKET.sub("&lt;", _LONE_AMPERSAND.sub("&amp;", text)))
            parser.close()
            text = parser.text()
    return text


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._hidden = 0

    def text(self) -> str:
        lines = (line.strip(" ") for line in "".join(self._parts).split("\n"))
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if any(value is None and name not in BARE for name, value in attrs):
            self._parts.append(self.get_starttag_text() or "")  # "INR <b and PT> 12" is prose
        elif tag in HIDDEN:
            self._hidden += 1
        else:
            self._parts.append(self._break(tag))
            if tag == "li":
                self._parts.append("- ")
            elif tag == "sup":
                self._parts.append("^")  # 10<sup>9</sup> must not become 109

    def handle_endtag(self, tag: str) -> None:
        if tag in HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag in BLOCKS and tag != "tr":
            self._parts.append(self._break(tag))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)  # <br/> is one line break, not two

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._parts.append(data)

    @staticmethod
    def _break(tag: str) -> str:
        if tag in BLOCKS:
            return "\n" if tag == "tr" else "\n\n"
        return "\n" if tag in LINES else " " if tag in ("td", "th") else ""
