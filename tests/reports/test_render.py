"""report.html: complete, safe with any string, and readable."""

import contextlib
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from clingpt.reports import DISCLAIMER, plots
from clingpt.reports.render import marked_pieces, page
from clingpt.reports.report import N_EXAMPLES
from tests.helpers.html_page import Parsed, contrast
from tests.helpers.markup import SHOWN, STYLE, hostile
from tests.helpers.patience import PATIENCE
from tests.helpers.reports import bare_report, full_report, not_calibrated, typed

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.parametrize("make", [full_report, bare_report])
def test_a_page_is_complete_and_loads_nothing(make: Callable[[], dict[str, Any]]) -> None:
    source = page(typed(make()))
    parsed = Parsed(source)
    assert parsed.others == ["doctype html"]
    assert parsed.named("html") == [{"lang": "en"}]
    assert {"charset": "utf-8"} in parsed.named("meta")
    [policy] = [m["content"] for m in parsed.named("meta") if "http-equiv" in m]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert any(m.get("name") == "viewport" for m in parsed.named("meta"))
    assert len(parsed.named("style")) == len(parsed.named("h1")) == 1
    assert DISCLAIMER in parsed.text
    assert not {tag for tag, _ in parsed.tags} & {"script", "img", "link", "iframe", "a", "form"}
    assert "url(" not in STYLE and "@import" not in STYLE
    assert len(parsed.named("caption")) == len(parsed.named("table"))
    assert all(attrs["scope"] in ("col", "row") for attrs in parsed.named("th"))
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise([0, *levels]))
    assert source == page(typed(make()))


def test_no_string_of_a_report_becomes_markup() -> None:
    report = full_report()
    # Headings of the data have a table of their own, and hostile ones are of the data.
    report["texts"]["document"]["structure"]["headings"] = ["HPI", "PLAN"]
    clean, attacked = Parsed(page(typed(report))), Parsed(page(typed(hostile(report))))
    assert attacked.kinds() <= clean.kinds()
    assert attacked.others == clean.others
    assert len(attacked.named("tr")) == len(clean.named("tr"))
    for _, attrs in attacked.tags:
        assert not any(name.startswith("on") for name in attrs)
        assert attrs.get("xlink:href", "#").startswith("#")
    assert all(re.fullmatch(r"width:[\d.]+%", attrs["style"]) for attrs in attacked.named("i"))
    assert all(attrs["title"].replace(SHOWN, "") in ("", ", ") for attrs in attacked.named("mark"))
    assert attacked.text.count(SHOWN) > 100
    page(typed(hostile(full_report()))).encode()  # lone surrogates could not be written


def test_measures_without_results_have_no_section() -> None:
    bare = page(typed(bare_report()))
    assert re.findall("<h2>(.*?)</h2>", bare) == ["At a glance", "Tables"]
    assert "Evaluations on the test split" not in bare
    nothing = page(typed(bare_report() | {"perplexity": {}}))
    assert "<section>" not in nothing and "<dd>500 val records</dd>" in nothing
    compared = bare_report() | {"perplexity": {}, "comparison": full_report()["comparison"]}
    assert re.findall("<h2>(.*?)</h2>", page(typed(compared))) == ["Tables"]


def test_the_heading_names_what_was_evaluated_and_how_often() -> None:
    text = Parsed(page(typed(full_report()))).text
    for phrase in (
        "Evaluation of out/pubmedqa/best",
        "PubMedQA's official 500 test records",
        "fingerprint 5b0c3e2f9d1a",
        "2 so far in this run",
        "reasoning-required",
        "124,439,808",
    ):
        assert phrase in text


def test_overlapping_flags_are_marked_piece_by_piece() -> None:
    example = typed(full_report()).examples[1]
    pieces = marked_pieces(example)
    assert "".join(text for text, _ in pieces) == example.output
    flagged = [(kinds, text) for text, kinds in pieces if kinds]
    assert flagged == [
        ("comparator", "more than"),
        ("number", "1.9 "),
        ("number, unit", "mg"),
        ("number", "31 %"),
    ]
    assert re.findall('<mark title="(.*?)">(.*?)</mark>', page(typed(full_report())))[:4] == flagged
    assert marked_pieces(replace(example, output="a < b", flags=())) == [("a < b", "")]
    assert marked_pieces(replace(example, output="", flags=())) == []


def test_an_example_shows_its_label_and_how_it_ended() -> None:
    text = Parsed(page(typed(full_report()))).text
    assert "predicted yes (correct)" in text
    assert (
        "predicted maybe (wrong, gold is yes); below the threshold, so the label is withheld; "
        "unlike the training data; prompt trimmed by 118" in text
    )
    assert "stopped at the length limit" in text
    assert "Unsupported: negation “not”; number “48”" in text
    bars = Parsed(page(typed(full_report()))).named("i")
    assert [bar["style"] for bar in bars[3:]] == ["width:38.1%", "width:20.7%", "width:41.2%"]


def test_probabilities_are_not_shown_as_certain_or_calibrated_if_they_are_not() -> None:
    report = full_report()
    report["calibration"] = not_calibrated()
    report["examples"][0]["probabilities"] = {"yes": 1.0, "no": 2.4e-87, "maybe": 0.0}
    text = Parsed(page(typed(report))).text
    assert text.count("ot calibrated: 0 mistakes in 300 validation records") == 2  # tile, table
    assert "before calibration" not in text and "flattened" not in text
    flattened = full_report() | {"calibration": not_calibrated(temperature=1.5)}
    assert "records, so only flattened; before that 0.117" in page(typed(flattened))
    shown = text[text.index("Examples") :]
    assert ">99.9 %" in shown and shown.count("<0.1 %") == 2 and "100.0 %" not in shown


def test_at_most_twenty_examples_are_shown() -> None:
    report = full_report()
    report["examples"] *= 6
    assert len(Parsed(page(typed(report))).named("article")) == N_EXAMPLES


def test_colours_have_enough_contrast_in_light_and_dark_mode() -> None:
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w+);", block))
        for block in STYLE.split("@media print")[0].split("@media screen")
    )
    for colours in (light, light | dark):
        for ground in ("ground", "panel"):
            assert contrast(colours["ink"], colours[ground]) >= 7  # WCAG's AAA
            assert contrast(colours["soft"], colours[ground]) >= 4.5
        assert contrast(colours["ink"], colours["mark"]) >= 4.5
        for drawn in (plots.BLUE, plots.ORANGE):  # WCAG asks 3 of graphics
            assert contrast(drawn, colours["ground"]) >= 3


@pytest.mark.skipif(BROWSER is None, reason="no chromium")
def test_a_browser_runs_no_script_and_makes_no_request(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(typed(hostile(full_report()))), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0), backlog=100) as proxy:
        flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-sync --dump-dom"
        flags += " --disable-background-networking --disable-component-update"
        flags += f" --enable-logging=stderr --user-data-dir={tmp_path / 'profile'}"
        flags += f" --proxy-server=127.0.0.1:{proxy.getsockname()[1]}"
        result = subprocess.run(
            [str(BROWSER), *flags.split(), file.as_uri()],
            capture_output=True,
            text=True,
            timeout=120 * PATIENCE,
            check=True,
        )
        asked = list(iter_requests(proxy))
    # Browsers contact their makers unasked; addresses in the report end in .example.
    assert not [line for line in asked if "example" in line]
    assert "CONSOLE" not in result.stderr
    assert Parsed(result.stdout).kinds() == Parsed(file.read_text(encoding="utf-8")).kinds()


def iter_requests(server: socket.socket) -> Iterator[str]:
    """Yield the first line of each pending request."""
    server.settimeout(0.1)
    with contextlib.suppress(TimeoutError):
        while True:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(1)
                with contextlib.suppress(OSError):
                    yield connection.recv(1000).decode(errors="replace").partition("\r")[0]


def test_an_output_without_a_source_is_marked_as_such() -> None:
    remark = "no context to compare the output with"
    [example, *_] = full_report()["examples"]
    for compared in (True, False):
        shown = page(typed(bare_report() | {"examples": [example | {"compared": compared}]}))
        assert (remark in shown) != compared


def test_ids_of_plots_are_unique_and_every_reference_is_defined() -> None:
    parsed = Parsed(page(typed(full_report())))
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) > 100
    values = [value for _, attrs in parsed.tags for value in attrs.values()]
    used = {name for value in values for name in re.findall(r"url\(#(.*?)\)", value)}
    used |= {attrs["xlink:href"].removeprefix("#") for attrs in parsed.named("use")}
    assert used and used <= set(ids)
