"""Text from HTML, such as the narrative of a FHIR resource or a report saved by a web page."""

from html.parser import HTMLParser

UNSHOWN = frozenset({"script", "style", "head", "title", "template"})
# Elements that begin on a line of their own. A cell begins after a space.
BLOCKS = frozenset(
    "address article aside blockquote br caption center dd div dl dt fieldset figure footer form h1"
    " h2 h3 h4 h5 h6 header hr li main nav ol p pre section table tbody tfoot thead tr ul".split()
)
CELLS = frozenset({"td", "th"})


def html_to_text(html: str) -> str:
    """Return the text of HTML or XHTML, without tags and with entities as characters.

    Blocks and rows of a table are lines; white space within a line counts as one space. Malformed
    HTML is read as browsers do: what is not a tag is text ("p < 0.05").
    """
    parser = _TextParser()
    parser.feed(html)
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.parts).split("\n"))
    return "\n".join(line for line in lines if line)


class _TextParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unshown: list[str] = []  # open elements without text

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in UNSHOWN:
            self._unshown.append(tag)
        else:
            self._separate(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self._separate(tag)  # in XHTML, <script/> is complete

    def handle_endtag(self, tag: str) -> None:
        if tag in self._unshown:
            self._unshown.remove(tag)
        self._separate(tag)

    def handle_data(self, data: str) -> None:
        if not self._unshown:
            self.parts.append(data.replace("\n", " "))

    def _separate(self, tag: str) -> None:
        if tag in BLOCKS:
            self.parts.append("\n")
        elif tag in CELLS:
            self.parts.append(" ")
