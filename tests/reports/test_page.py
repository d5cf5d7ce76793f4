"""Tables, plots and the page: the right figures, and no text of a report that becomes markup."""

import contextlib
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from clingpt.base import console
from clingpt.reports import page, plots
from clingpt.reports.tables import Table, as_markdown, as_text, plain, tables
from tests.helpers.html_page import Parsed, contrast
from tests.helpers.reports import bare_report, full_report

HOSTILE = (
    "</td></script><script>alert(1)</script><img src=http://a.example onerror=alert(1)> | a \" b '"
    " &amp; --><!-- </style><b>*x*</b> [l](http://a.example) `c` ~~s~~ www.a.example \x1b[31m\u202e"
    "\ud800 \\"
)
SHOWN = console.visible(HOSTILE)
# Names in a report that are data: of systems, of texts, of settings, …
FREE = {"systems", "perplexity", "texts", "settings", "versions", "probabilities", "spread"}
FREE |= {"section_rougeL"}
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


def hostile(value: Any, *, free: bool = False, numbers: Any = None) -> Any:
    """A report whose every string, every name that is data included, is HOSTILE."""
    numbers = numbers or count()
    if isinstance(value, dict):
        return {
            f"{HOSTILE} {next(numbers)}"
            if free and key not in ("model", "reference")
            else key: hostile(inner, free=key in FREE, numbers=numbers)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [hostile(inner, numbers=numbers) for inner in value]
    return HOSTILE if isinstance(value, str) else value


# ------------------------------------------------------------------------------------------------
# Tables


def found(report: Mapping[str, Any], title: str) -> Table:
    [table] = [table for table in tables(report) if table.title.startswith(title)]
    return table


def test_figures_stand_where_the_head_says() -> None:
    report = full_report()
    labels = found(report, "yes / no / maybe")
    assert labels.title == "yes / no / maybe: 500 records, in percent"
    assert labels.texts()[2] == ["model", "65.0", "60.7–69.1", "50.5", "47.2–56.1"]
    assert labels.notes[-1] == "Bags of words were fitted on the 450 training records."
    classes = found(report, "The model by class")
    assert classes.texts()[1] == ["no", "60.2", "59.2", "59.7", "169", "58", "100", "11"]
    assert found(report, "Calibration").texts()[1] == ["calibrated", "0.032", "0.842", "0.489"]
    summaries = found(report, "summarize: 500")
    assert summaries.texts()[0] == ["reference", *["–"] * 7, "43", "62", "8.4"]
    model = [
        "model",
        "35.3",
        "12.6",
        "25.2",
        "24.1–26.3",
        "27.7",
        "6.3",
        "0.89",
        "38",
        "31",
        "15.5",
    ]
    assert summaries.texts()[-1] == model
    faithful = found(report, "Faithfulness").texts()
    assert faithful[5][:4] == ["summarize", "reference", "500", "8.4"]
    assert faithful[-1] == ["document", "model", "120", *"15.5 10.8 1.6 2.3 4.7 0.22 9.3".split()]
    assert found(report, "document: headings").texts() == [
        ["96.2", "0.8", "94.1", "87.5", "41.2", "52.8", "47.1", "12.3", "22.9"]
    ]
    perplexity = found(report, "Perplexity").texts()
    assert perplexity[0][3:] == ["11.62", "11.27–11.97", "27.42", "0.7912", "11.50"]
    assert perplexity[2][-1] == "–"
    assert found(report, "8-bit").texts()[0][-2:] == ["+0.77%", "3.12%"]
    assert found(report, "Checkpoints").texts()[1][1:3] == ["0.7932", "0.0021"]
    assert found(report, "Checkpoints").texts()[3][1:3] == ["15.1", "1.2"]
    assert found(report, "Difference").texts()[0][1:] == ["2.4", "-1.2 to +6.0", "3.1", "0.4–5.8"]


def test_an_output_with_nothing_to_compare_it_with_says_so() -> None:
    said = "no context, so nothing to compare the output with"
    [example, *_] = full_report()["examples"]
    for compared in (True, False):
        shown = page.page(bare_report() | {"examples": [example | {"compared": compared}]})
        assert (said in shown) != compared


def test_what_was_not_measured_has_no_table() -> None:
    assert [table.title for table in tables(bare_report())] == ["Perplexity, corpus-level"]
    assert tables(bare_report() | {"perplexity": {}}) == []


def test_numbers_stand_right_and_words_left() -> None:
    table = Table("t", ["system", "95 %", "x"], [["a", "1.0–2.0", None], ["7", "-1.0 to +2.0", 3]])
    assert table.numeric() == [False, True, True]
    assert "| --- | ---: | ---: |" in as_markdown([table])
    assert as_text([table]).splitlines()[-1] == "7       -1.0 to +2.0  3"
    assert Table("t", ["a", "b"], []).numeric() == [False, False]


def test_calibration_of_a_model_that_answers_nothing() -> None:
    report = full_report()
    report["calibration"] |= {"abstained": 1.0, "accuracy_kept": None}
    assert "unanswered: 100.0 %; accuracy of the rest: –." in found(report, "Calibration").notes[1]
    assert "100.0 %" not in (plots.risk_coverage(report) or "")
    assert "accuracy of these: – %" in page.page(report)


def test_outputs_without_a_label_are_counted_below() -> None:
    report = full_report()
    report["labels"]["systems"]["model"]["unparseable"] = 3
    assert "Outputs without a label, which count as wrong: model 3." in as_text(tables(report))


def test_markdown_shows_every_text_as_it_is() -> None:
    """By another reader of Markdown: its cells are ours, and it finds no other markup."""
    markdown_it = pytest.importorskip("markdown_it")
    reader = markdown_it.MarkdownIt("gfm-like", {"linkify": False, "html": True})
    whole = tables(hostile(full_report()))
    parsed = Parsed(reader.render(as_markdown(whole)))
    expected = {"p", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    assert {tag for tag, _ in parsed.tags} == expected
    lines = parsed.text.splitlines()
    shown = [text for table in whole for text in (*table.columns, *sum(table.texts(), []))]
    cells = [console.safe_line(text) for text in shown]
    assert [line for line in lines if line in cells] == cells
    for note in (note for table in whole for note in table.notes):
        assert console.safe_line(note) in lines


@pytest.mark.parametrize(
    "text", ["# h", "- x", "+ x", "12. x", "3) x", "---", "===", "> x", "&lt;", "\ta", "http://a.b"]
)
def test_no_text_begins_a_block(text: str) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    parsed = Parsed(markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render(plain(text)))
    assert (parsed.tags, parsed.text) == ([("p", {})], f"{console.safe_line(text)}\n")


def test_addresses_are_not_made_links() -> None:
    # GitHub links what has "://" or "www." as it stands in the source.
    assert (
        plain("see https://a.example, WWW.b.example") == r"see https:\//a.example, WWW\.b.example"
    )


def test_the_terminal_gets_no_control_character() -> None:
    assert not console.UNSAFE.search(as_text(tables(hostile(full_report()))))


# ------------------------------------------------------------------------------------------------
# Plots

DRAWN = (plots.reliability, plots.risk_coverage, plots.confusion, plots.curve)


@pytest.mark.parametrize("draw", DRAWN)
def test_a_plot_is_text_without_a_style_sheet_or_a_date(
    draw: Callable[[Mapping[str, Any]], str | None],
) -> None:
    svg = draw(full_report())
    assert svg is not None and svg.startswith("<svg ")
    parsed = Parsed(svg)
    tags = {tag for tag, _ in parsed.tags}
    assert "text" in tags and not tags & {"style", "metadata", "image", "script"}
    assert "currentColor" in svg and plots.INK not in svg
    assert svg == draw(full_report())
    assert draw(bare_report()) is None


def test_plots_hold_their_figures() -> None:
    report = full_report()
    assert "threshold 0.52: 79 % answered, 27 % wrong" in (plots.risk_coverage(report) or "")
    confusion = Parsed(plots.confusion(report) or "").text.split()
    assert [confusion.count(number) for number in ("218", "47", "100", "29")] == [1] * 4
    assert "validation, lowest 2.535" in (plots.curve(report) or "")
    report["calibration"]["reliability"] = report["calibration"]["reliability"][:3]
    assert plots.reliability(report) is None  # no bin holds a record
    report["curve"] = [{"step": 1, "val_loss": 2.0}]
    assert "training" not in Parsed(plots.curve(report) or "").text


def test_no_two_plots_share_an_id_and_every_reference_is_met() -> None:
    parsed = Parsed(page.page(full_report()))
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) > 100
    values = [value for _, attrs in parsed.tags for value in attrs.values()]
    used = {name for value in values for name in re.findall(r"url\(#(.*?)\)", value)}
    used |= {attrs["xlink:href"].removeprefix("#") for attrs in parsed.named("use")}
    assert used and used <= set(ids)


# ------------------------------------------------------------------------------------------------
# The page


@pytest.mark.parametrize("make", [full_report, bare_report])
def test_a_page_is_whole_and_needs_nothing_else(make: Callable[[], dict[str, Any]]) -> None:
    source = page.page(make())
    parsed = Parsed(source)
    assert parsed.others == ["doctype html"]
    assert parsed.named("html") == [{"lang": "en"}]
    assert {"charset": "utf-8"} in parsed.named("meta")
    [policy] = [m["content"] for m in parsed.named("meta") if "http-equiv" in m]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert any(m.get("name") == "viewport" for m in parsed.named("meta"))
    assert len(parsed.named("style")) == len(parsed.named("h1")) == 1
    assert page.DISCLAIMER in parsed.text
    assert not {tag for tag, _ in parsed.tags} & {"script", "img", "link", "iframe", "a", "form"}
    assert "url(" not in page.STYLE and "@import" not in page.STYLE
    assert len(parsed.named("caption")) == len(parsed.named("table"))
    assert all(attrs["scope"] in ("col", "row") for attrs in parsed.named("th"))
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise([0, *levels]))
    assert source == page.page(make())


def test_no_string_of_a_report_becomes_markup() -> None:
    clean, attacked = Parsed(page.page(full_report())), Parsed(page.page(hostile(full_report())))
    assert attacked.kinds() <= clean.kinds()
    assert attacked.others == clean.others
    assert len(attacked.named("tr")) == len(clean.named("tr"))
    for _, attrs in attacked.tags:
        assert not any(name.startswith("on") for name in attrs)
        assert attrs.get("xlink:href", "#").startswith("#")
    assert all(re.fullmatch(r"width:[\d.]+%", attrs["style"]) for attrs in attacked.named("i"))
    assert all(attrs["title"].replace(SHOWN, "") in ("", ", ") for attrs in attacked.named("mark"))
    assert attacked.text.count(SHOWN) > 100
    page.page(hostile(full_report())).encode()  # lone surrogates could not be written


def test_what_was_not_measured_has_no_section() -> None:
    bare = page.page(bare_report())
    assert re.findall("<h2>(.*?)</h2>", bare) == ["At a glance", "Tables"]
    assert "Looks at the test split" not in bare
    nothing = page.page(bare_report() | {"perplexity": {}})
    assert "<section>" not in nothing and "<dd>records.jsonl</dd>" in nothing
    compared = bare_report() | {"perplexity": {}, "comparison": full_report()["comparison"]}
    assert re.findall("<h2>(.*?)</h2>", page.page(compared)) == ["Tables"]


def test_the_heading_says_what_was_looked_at_and_how_often() -> None:
    text = Parsed(page.page(full_report())).text
    for phrase in (
        "Evaluation of out/pubmedqa/best",
        "PubMedQA, the official 500 test records",
        "fingerprint 5b0c3e2f9d1a",
        "2, counted for this run",
        "reasoning-required",
        "124,439,808",
    ):
        assert phrase in text


def test_flags_are_marked_where_they_stand_also_where_they_overlap() -> None:
    example = full_report()["examples"][1]
    marked = page._marked(example["output"], example["flags"])
    assert Parsed(marked).text == example["output"]
    assert re.findall('<mark title="(.*?)">(.*?)</mark>', marked) == [
        ("comparator", "more than"),
        ("number", "1.9 "),
        ("number, unit", "mg"),
        ("number", "31 %"),
    ]
    assert page._marked("a < b", []) == "a &lt; b"
    assert page._marked("", []) == ""


def test_an_example_says_what_became_of_it() -> None:
    text = Parsed(page.page(full_report())).text
    assert "label scored highest: yes, right" in text
    assert (
        "maybe, wrong: it is yes; below the threshold, so withheld; prompt trimmed by 118" in text
    )
    assert "stopped at the limit" in text
    assert "Flagged: negation “not”; number “48”" in text
    bars = Parsed(page.page(full_report())).named("i")
    assert [bar["style"] for bar in bars[3:]] == ["width:38.1%", "width:20.7%", "width:41.2%"]


def test_at_most_twenty_examples_are_shown() -> None:
    report = full_report()
    report["examples"] *= 6
    assert len(Parsed(page.page(report)).named("article")) == page.EXAMPLES


def test_everything_can_be_read_by_day_and_by_night() -> None:
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w+);", block))
        for block in page.STYLE.split("@media print")[0].split("@media screen")
    )
    for colours in (light, light | dark):
        for ground in ("ground", "panel"):
            assert contrast(colours["ink"], colours[ground]) >= 7  # WCAG's AAA
            assert contrast(colours["soft"], colours[ground]) >= 4.5
        assert contrast(colours["ink"], colours["mark"]) >= 4.5
        for drawn in (plots.BLUE, plots.ORANGE):  # of what is no text: 3
            assert contrast(drawn, colours["ground"]) >= 3


@pytest.mark.skipif(BROWSER is None, reason="no chromium")
def test_a_browser_finds_no_script_no_error_and_asks_nobody(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page.page(hostile(full_report())), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0), backlog=100) as proxy:
        flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-sync --dump-dom"
        flags += " --disable-background-networking --disable-component-update"
        flags += f" --enable-logging=stderr --user-data-dir={tmp_path / 'profile'}"
        flags += f" --proxy-server=127.0.0.1:{proxy.getsockname()[1]}"
        result = subprocess.run(
            [str(BROWSER), *flags.split(), file.as_uri()],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        asked = list(iter_requests(proxy))
    # A browser asks its maker on its own account; what the report names ends in .example.
    assert not [line for line in asked if "example" in line]
    assert "CONSOLE" not in result.stderr
    assert Parsed(result.stdout).kinds() == Parsed(file.read_text(encoding="utf-8")).kinds()


def iter_requests(server: socket.socket) -> Iterator[str]:
    """The first line of each request that waits to be taken up."""
    server.settimeout(0.1)
    with contextlib.suppress(TimeoutError):
        while True:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(1)
                with contextlib.suppress(OSError):
                    yield connection.recv(1000).decode(errors="replace").partition("\r")[0]
