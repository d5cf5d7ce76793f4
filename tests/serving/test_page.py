"""The web page of serve.py: self-contained, safe against markup in replies, and fully operable."""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from clingpt.data.synthetic import iter_records
from clingpt.evaluation.calibration import shown_probability
from clingpt.reports import DISCLAIMER
from clingpt.text.records import LABELS
from model import GPT, GPTConfig
from tests.helpers.commands import ROOT
from tests.helpers.html_page import Parsed, contrast
from tests.helpers.markup import STYLE
from tests.helpers.patience import PATIENCE
from tests.helpers.servers import Server, behind_proxy, eventually, serving

SOURCE = (ROOT / "clingpt/serving/serve.html").read_text(encoding="utf-8")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TASKS = ("answer", "summarize", "document", "explain")
FIELDS = [("answer", "question"), ("explain", "question"), *((task, "text") for task in TASKS)]
EXECUTED = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(")
STORED = ("localStorage", "sessionStorage", "indexedDB", "cookie", "location", "history")
WAIT_MS = 60_000 * PATIENCE
DONE = re.compile("Done")
HOSTILE = "<img src=x onerror=alert(1)></p><script>alert(2)</script>"


def block(tag: str) -> str:
    """Return the content of the only element with this tag."""
    [inside] = re.findall(f"<{tag}>(.*?)</{tag}>", SOURCE, re.DOTALL)
    return str(inside)


# ------------------------------------------------------------------------------------------------
# The file


def test_page_has_one_script_one_style_and_no_external_resources() -> None:
    parsed = Parsed(SOURCE)
    assert parsed.named("script") == parsed.named("style") == [{}]
    assert parsed.named("link") == [{"rel": "icon", "href": "data:,"}]
    unwanted = {"img", "iframe", "object", "embed", "base"}
    assert not {tag for tag, _ in parsed.tags} & unwanted
    assert not re.search(r"\w+://|url\(|@import|@font-face|//\w+\.\w", SOURCE)
    for _, attrs in parsed.tags:  # the server's Content-Security-Policy would block both
        assert not any(name == "style" or name.startswith("on") for name in attrs)
        assert set(attrs) & {"src", "href", "action", "srcset", "srcdoc"} <= {"href"}


@pytest.mark.parametrize("word", [*EXECUTED, *STORED])
def test_page_never_uses_unsafe_or_storage_apis(word: str) -> None:
    assert word not in SOURCE


def test_header_states_the_intended_use() -> None:
    assert f'<p class="warning">{DISCLAIMER}</p>' in block("header")


def test_every_input_has_a_label_and_every_reference_a_target() -> None:
    parsed = Parsed(SOURCE)
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    inputs = [*parsed.named("input"), *parsed.named("textarea")]
    assert sorted(attrs["id"] for attrs in inputs) == sorted(
        a["for"] for a in parsed.named("label")
    )
    for _, attrs in parsed.tags:
        for name in ("aria-controls", "aria-labelledby", "aria-describedby"):
            assert attrs.get(name, ids[0]) in ids
    # No completion from earlier input, and no spell checking, which may send text to a vendor.
    assert all(attrs["autocomplete"] == "off" for attrs in inputs)
    assert len(parsed.named("textarea")) == len(FIELDS)
    assert all(attrs["spellcheck"] == "false" for attrs in parsed.named("textarea"))


def test_no_button_submits_a_form() -> None:
    buttons = Parsed(SOURCE).named("button")
    assert len(buttons) == 9 and all(attrs["type"] == "button" for attrs in buttons)
    assert Parsed(SOURCE).named("form") == [{"id": "access"}]  # the one around the API key


def test_colours_have_enough_contrast_in_light_and_dark() -> None:
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w+);", part))
        for part in block("style").split("@media print")[0].split("@media screen")
    )
    reports = re.findall(r"--(\w+): (#\w+);", STYLE.split("@media screen")[0])
    assert dict(reports).items() <= light.items()
    for colours in (light, light | dark):
        for ground in ("ground", "panel"):
            assert contrast(colours["ink"], colours[ground]) >= 7  # WCAG's AAA
            for words in ("soft", "bad"):
                assert contrast(colours[words], colours[ground]) >= 4.5
            for drawn in ("bar", "edge", "accent", "warn"):  # WCAG's 3 for graphics
                assert contrast(colours[drawn], colours[ground]) >= 3
        assert contrast(colours["ink"], colours["mark"]) >= 4.5
        assert contrast(colours["onaccent"], colours["accent"]) >= 4.5


def test_animations_respect_reduced_motion() -> None:
    [still, moving] = block("style").split("@media (prefers-reduced-motion: no-preference) {")
    moving, _, after = moving.partition("@media")
    assert "animation:" in moving and "transition:" in moving
    assert not re.search("animation|transition|scroll-behavior|@keyframes", still + after)


def test_examples_have_a_suitable_length() -> None:
    tasks, *_ = block("script").partition("const GENERATED_EXAMPLE")
    texts = re.findall(r"text: `(.*?)`", tasks, re.DOTALL)
    assert len(texts) == len(TASKS)
    assert all(80 <= len(text.replace("\\\n", "").split()) <= 150 for text in texts)


def test_the_example_for_a_quickstart_model_is_a_generated_record() -> None:
    """Of the validation split, so that the model has not seen it."""
    _, _, rest = block("script").partition("const GENERATED_EXAMPLE")
    found = re.search(r"question: `(.*?)`,\s*text: `(.*?)`", rest, re.DOTALL)
    assert found is not None
    question, text = (part.replace("\\\n", "") for part in found.groups())
    *_, record = iter_records("val", count=35, seed=1337)
    assert question == record.question and record.decision == "yes"
    assert text == "\n".join(f"{label}: {body}" for label, body in record.sections)


# ------------------------------------------------------------------------------------------------
# In a browser


@dataclass
class Watched:
    """A page with its errors and the requests that it sent."""

    page: Any
    server: Server
    errors: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    posted: list[Any] = field(default_factory=list)  # requests
    refusals_expected: bool = False

    def on_console(self, message: Any) -> None:
        # Such as "error", and "verbose" with advice about the page's elements.
        if message.type != "log":
            self.errors.append(message.text)

    def on_dialog(self, dialog: Any) -> None:
        self.errors.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def on_request(self, request: Any) -> None:
        self.asked.append(request.url)
        if request.method == "POST":
            self.posted.append(request)

    def panel(self) -> Any:
        return self.page.locator("[role=tabpanel]:visible")

    def press(self, name: str) -> None:
        self.panel().get_by_role("button", name=name, exact=True).click()

    def choose(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def run(self) -> None:
        """Run the task and wait until it is done."""
        self.press("Run")
        self.says(DONE)

    def start_example(self) -> None:
        self.press("Load an example")
        self.press("Run")

    def run_example(self) -> None:
        self.start_example()
        self.says(DONE)

    def says(self, text: str | re.Pattern[str]) -> None:
        """Wait until the status line shows this text."""
        from playwright.sync_api import expect

        expect(self.panel().get_by_role("status")).to_have_text(text, timeout=WAIT_MS)

    def at_most(self, tokens: int) -> None:
        """Set the maximum length of replies."""
        self.page.evaluate("n => document.getElementById('max_new_tokens').value = n", tokens)

    def result(self, inside: str = "") -> Any:
        """Return the region that shows the result, or the elements inside it that match."""
        return self.panel().locator(f".result {inside}")

    def shown(self) -> str:
        """Return the text of the result."""
        return str(self.result().inner_text())

    def copied(self) -> str:
        """Press Copy and return the clipboard's text."""
        self.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.press("Copy")
        self.says("Copied.")
        return str(self.page.evaluate("() => navigator.clipboard.readText()"))

    def replies(self, body: str, *, status: int = 200, **headers: str) -> None:
        """Answer every request with this body, without asking the server."""
        kind = "text/event-stream" if status == 200 else "application/json"
        self.page.route(
            re.compile("/v1/(answer|summarize|document|explain)$"),
            lambda route: route.fulfill(
                status=status, body=body, headers={"Content-Type": kind, **headers}
            ),
        )


def focused(watched: Watched, what: str) -> str:
    """Return a property of the focused element."""
    return str(watched.page.evaluate("what => document.activeElement[what]", what))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("needs Chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose model writes nonsense without end; only started if there is a browser."""
    folder = tmp_path_factory.mktemp("page")
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=1024))
    model.save_pretrained(folder / "nonsense")
    with serving(folder / "nonsense") as running:
        yield running


@pytest.fixture
def watched(browser: Any, server: Server) -> Iterator[Watched]:
    """The opened page; the test fails after an error, a dialog or a request to another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=server.url)
    context.set_default_timeout(WAIT_MS)
    seen = Watched(context.new_page(), server)
    seen.page.on("console", seen.on_console)
    seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
    seen.page.on("dialog", seen.on_dialog)
    seen.page.on("request", seen.on_request)
    seen.page.goto("/")
    yield seen
    context.close()
    refused = "Failed to load resource: the server responded with a status of"
    errors = [e for e in seen.errors if not (seen.refusals_expected and e.startswith(refused))]
    assert errors == []
    assert {address.startswith((f"{server.url}/", "data:")) for address in seen.asked} == {True}


def frames(*events: dict[str, Any]) -> str:
    lines = [f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events]
    return "".join([": waiting\n\n", *lines, "data: [DONE]\n\n"])


def label(**changes: Any) -> dict[str, Any]:
    shares = {"yes": 0.42105, "no": 0.30, "maybe": 0.27895}
    known = {
        "calibration_note": None,
        "unlike_training": False,
        "abstained": False,
        "threshold": 0.4,
    }
    return {"label": "yes", "probabilities": shares, **known} | changes


def result(**changes: Any) -> dict[str, Any]:
    """Return a result event; `changes` contains its explanation, summary or document."""
    fields = {"model": "m", "finish_reason": "stop", "warnings": [], "trimmed_tokens": 0}
    fields["usage"] = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return {"type": "result", "index": 0, "result": fields | changes}


def warning(text: str, found: str, kind: str = "number") -> dict[str, Any]:
    """Return a warning about the first occurrence of `found` in `text`."""
    start = text.index(found)
    place = {"start": start, "end": start + len(found), "text": found}
    return {"kind": kind, **place, "message": f"{found} is not in the report"}


def answered(text: str, **changes: Any) -> str:
    """Return the whole stream of an answer with this explanation."""
    shown_label = label(**{key: changes.pop(key) for key in list(changes) if key in label()})
    return frames(
        {"type": "label", "index": 0, **shown_label},
        {"type": "text", "index": 0, "window": 0, "text": text},
        result(explanation=text, **shown_label, **changes),
    )


def test_text_appears_while_it_is_streamed(watched: Watched) -> None:
    watched.at_most(20)
    watched.choose("Summarise")
    watched.page.evaluate(
        """() => { window.seen = [];
        const region = document.querySelector("#panel-summarize .result");
        new MutationObserver(() => window.seen.push(
            [region.textContent, region.getAttribute("aria-live"), region.ariaBusy]))
          .observe(region, { subtree: true, childList: true }); }"""
    )
    watched.run_example()
    watched.says(re.compile(r"Done in \d+\.\d s\."))
    *written, last = watched.page.evaluate("() => window.seen")
    texts = [text for text, _, _ in written]
    assert len(set(texts)) > 5 and texts[1:] == sorted(texts[1:], key=len)
    assert {(live, busy) for _, live, busy in written} == {("off", "true")}
    assert last[1:] == ["polite", "false"]


def test_answer_shows_all_probabilities(watched: Watched) -> None:
    watched.at_most(7)
    watched.run_example()
    assert watched.result(".verdict").text_content() in LABELS
    shares = watched.result(".share").all_inner_texts()
    tenths = sum(round(10 * float(share.removesuffix(" %"))) for share in shares)
    assert 998 <= tenths <= 1000  # each is rounded down
    widths = [bar.bounding_box()["width"] for bar in watched.result("i").all()]
    whole = watched.result(".track").first.bounding_box()["width"]
    for share, width in zip(shares, widths, strict=True):
        assert width == pytest.approx(whole * float(share.removesuffix(" %")) / 100, abs=2)
    assert "Model nonsense: " in watched.shown()


def test_replies_never_become_markup(watched: Watched) -> None:
    hostile = f"{HOSTILE} 48 mg \u202e and"
    found = [warning(hostile, "48") | {"text": HOSTILE, "message": HOSTILE}]
    shown_label = {"label": HOSTILE, "probabilities": {HOSTILE: 0.6, "no": 0.4}, "model": HOSTILE}
    watched.replies(answered(hostile, warnings=found, **shown_label))
    watched.run_example()
    assert watched.shown().count(HOSTILE) >= 6
    assert "and" in watched.shown() and "\\u202e" in watched.shown()
    assert watched.page.locator("img, script").count() == 1  # the page's own script
    watched.page.unroute_all()
    watched.replies(json.dumps({"error": {"message": HOSTILE}}), status=400)
    watched.refusals_expected = True
    watched.press("Run")
    watched.says(HOSTILE)


def test_warnings_are_marked_at_the_servers_offsets(watched: Watched) -> None:
    text = "🙂🙂 fell by 48 mg, é 🙂 not more than 7 %."
    found = [
        warning(text, "48"),
        warning(text, "48 mg", "unit"),
        warning(text, "not", "negation"),
        warning(text, "7 %."),
    ]
    watched.replies(answered(text, warnings=found))
    watched.run_example()
    marks = watched.result("mark")
    own = marks.evaluate_all("all => all.map((mark) => mark.firstChild.data)")
    assert own == ["48", " mg", "not", "7 %."]
    assert marks.nth(0).get_attribute("title") == (
        "number: 48 is not in the report\nunit: 48 mg is not in the report"
    )
    assert marks.nth(1).locator("sup").inner_text() == "2"
    assert marks.nth(2).locator(".unseen").text_content() == " (check 3: negation) "
    listed = watched.result(".flags li").all_inner_texts()
    assert listed[2] == "negation “not”: not is not in the report"
    assert "To check against the report: 4 places" in watched.shown()


def test_document_is_shown_under_its_headings(watched: Watched) -> None:
    text = "The RESULTS: none.\nRESULTS: 5 mg.\nCONCLUSION: Good, 9 of 10."
    sections = [
        {"heading": "RESULTS", "text": "5 mg."},
        {"heading": "CONCLUSION", "text": "Good, 9 of 10."},
    ]
    more = {"windows": 3, "trimmed_tokens": 1118, "finish_reason": "length", "sections": sections}
    found = [warning(text, "9 of", "comparator")]
    watched.replies(frames(result(document=text, warnings=found, **more)))
    watched.choose("Document")
    watched.run_example()
    assert watched.result("h4").all_inner_texts() == ["RESULTS", "CONCLUSION"]
    bodies = watched.result(".reply").all_inner_texts()
    assert bodies[:2] == ["The RESULTS: none.", "5 mg."] and bodies[2].startswith("Good, 9 of")
    for phrase in (
        "1,118 tokens of the report did not fit and were left out",
        "Written from 3 parts of the report",
        "Stopped at the maximum length",
        "Model m: 10 tokens read, 5 written",
    ):
        assert phrase in watched.shown()


def test_explanation_without_a_report_is_marked_as_unchecked(watched: Watched) -> None:
    watched.at_most(7)
    watched.choose("Explain")
    watched.press("Run")
    watched.says("Enter a question first.")
    assert focused(watched, "id") == "explain-question"
    watched.page.keyboard.type("What is asthma?")
    watched.run()
    sent = watched.posted[-1]
    assert sent.url.endswith("/v1/explain") and sent.post_data_json["text"] == ""
    assert "No report to compare this with" in watched.shown()
    assert "No unsupported" not in watched.shown()
    assert "No report to compare this with" in watched.copied()


def test_explanation_from_a_report_is_checked_against_it(watched: Watched) -> None:
    text = "It was lowered to 48 mg."
    fields = {"explanation": text, "warnings": [warning(text, "48")]}
    watched.replies(
        frames({"type": "text", "index": 0, "window": 0, "text": text}, result(**fields))
    )
    watched.choose("Explain")
    watched.run_example()
    assert "72-year-old" in watched.posted[-1].post_data_json["text"]
    assert watched.result("mark").count() == 1
    assert "No report" not in watched.shown()
    watched.press("Clear")
    for name in ("question", "text"):
        assert watched.page.locator(f"#explain-{name}").input_value() == ""


def test_withheld_label_is_not_shown_as_an_answer(watched: Watched) -> None:
    watched.replies(answered("The drug may help.", abstained=True, threshold=0.548))
    watched.run_example()
    verdict = watched.result(".verdict").inner_text()
    assert (
        "Too unsure to answer: no label reaches 54.8 %" in verdict and "yes" not in verdict.lower()
    )
    assert watched.result(".chosen").count() == 0
    assert "likeliest label, which is withheld" in watched.shown()
    limits = watched.result(".track").evaluate_all(
        "all => all.map((one) => parseFloat(getComputedStyle(one, '::after').left) /"
        " one.getBoundingClientRect().width)"
    )
    assert limits == pytest.approx([0.548] * 3, abs=0.01)


def test_label_above_the_threshold_is_shown_as_the_answer(watched: Watched) -> None:
    watched.replies(answered("It does."))
    watched.run_example()
    assert watched.result(".verdict").inner_text() == "Yes"
    assert watched.result(".chosen").inner_text().split() == ["yes", "42.1", "%"]
    assert "An answer needs at least 40.0 %." in watched.shown()
    assert "Unlike" not in watched.shown() and "alibrated" not in watched.shown()
    assert (
        "This check misses terms of the report that are used in the wrong place." in watched.shown()
    )


def test_uncalibrated_label_has_no_threshold(watched: Watched) -> None:
    said = "not calibrated: eval.py has not fitted a temperature"
    watched.replies(answered("It does.", abstained=None, threshold=None, calibration_note=said))
    watched.run_example()
    assert watched.result(".limited").count() == 0
    assert f"The probabilities are {said}." in watched.shown()


def test_a_label_is_never_shown_as_certain(watched: Watched) -> None:
    said = "not calibrated: 0 mistakes in 300 validation records"
    shares = {"yes": 0.99987, "no": 0.00013, "maybe": 2.4e-87}
    watched.replies(
        answered(
            "It does.",
            probabilities=shares,
            threshold=0.999,
            calibration_note=said,
            unlike_training=True,
        )
    )
    watched.run_example()
    assert watched.result(".share").all_inner_texts() == [">99.9 %", "<0.1 %", "<0.1 %"]
    assert "An answer needs at least 99.9 %." in watched.shown()
    assert f"The probabilities are {said}." in watched.shown()
    unlike = watched.result(".verdict .unlike").inner_text()
    assert unlike.startswith("Unlike the training data: accuracy on such inputs")
    assert "Unlike the training data: accuracy on such inputs" in watched.copied()
    assert (
        f"yes >99.9 %, no <0.1 %, maybe <0.1 %\nThe probabilities are {said}." in watched.copied()
    )


@pytest.mark.parametrize(
    "share", [0.0, 0.0009999, 0.001, 0.29, 0.2899999, 0.5205, 0.57, 0.999, 0.9990001, 1.0]
)
def test_the_page_rounds_probabilities_as_the_terminal_does(share: float, watched: Watched) -> None:
    assert watched.page.evaluate(f"percent({share!r})") == shown_probability(share)


IN_PIECES = """(body) => { window.fetch = async () => {
  const bytes = new TextEncoder().encode(body);
  const one_by_one = new ReadableStream({ start(controller) {
    for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
    controller.close(); } });
  return new Response(one_by_one, { status: 200 }); }; }"""


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_stream_may_be_split_at_any_byte(watched: Watched, line_end: str) -> None:
    text = "é 🙂 “≥ 5 µg”"
    body = answered(text).replace("\n", line_end)
    watched.page.evaluate(IN_PIECES, body)
    watched.run_example()
    assert watched.result(".reply").all_inner_texts() == [text]


def test_each_window_of_a_long_report_is_a_paragraph(watched: Watched) -> None:
    pieces = [(0, " One"), (0, " two."), (1, " Three.")]
    events = [{"type": "text", "index": 0, "window": n, "text": text} for n, text in pieces]
    cut = frames(*events).replace("data: [DONE]\n\n", "")
    watched.replies(cut)
    watched.choose("Summarise")
    watched.start_example()
    watched.says("The connection was lost before the end.")
    assert watched.result(".reply").all_inner_texts() == ["One two.", "Three."]
    assert "not compared with the report" in watched.shown()
    assert watched.panel().locator(".copy").get_attribute("aria-disabled") == "true"


def test_stop_cancels_the_request_on_the_server(watched: Watched) -> None:
    watched.choose("Summarise")
    watched.press("Load an example")
    watched.at_most(700)
    watched.page.evaluate(
        """() => new MutationObserver((_, self) => {
          if (!document.querySelector("#panel-summarize .reply")) return;
          self.disconnect();
          document.querySelector("#panel-summarize .stop").click();
        }).observe(document.querySelector("#panel-summarize .result"), { childList: true })"""
    )
    watched.press("Run")
    watched.says("Stopped.")
    assert "not compared with the report" in watched.shown()
    cancelled = '\nclingpt_replies_total{finish_reason="cancelled"} 1.0\n'
    eventually(lambda: cancelled in watched.server.ask("/metrics").body.decode())
    eventually(lambda: watched.server.gauge("num_requests_running") == 0)
    watched.at_most(7)
    watched.run()  # and it can be asked again
    assert "Stopped at the maximum length." in watched.shown()


def test_escape_stops_and_clear_empties_everything(watched: Watched) -> None:
    watched.page.evaluate(
        """() => { window.fetch = (_, { signal }) => new Promise((_, reject) =>
          signal.addEventListener("abort", () => reject(signal.reason))); }"""
    )
    watched.start_example()
    watched.says("Waiting in the queue…")
    watched.page.keyboard.press("Escape")
    watched.says("Stopped.")
    watched.press("Run")
    watched.says("Waiting in the queue…")
    watched.press("Clear")
    watched.says("")
    assert watched.page.locator("#answer-text").input_value() == ""
    assert watched.page.locator("#answer-question").input_value() == ""
    assert "will appear here" in watched.shown()


@pytest.mark.parametrize(
    ("status", "headers", "phrase"),
    [
        (503, {"Retry-After": "7"}, "Busy; try again in 7 s. (quota used up)"),
        (429, {"Retry-After": "1"}, "Busy; try again in 1 s. (quota used up)"),
        (422, {}, "quota used up"),
    ],
)
def test_refusal_is_shown(
    watched: Watched, status: int, headers: dict[str, str], phrase: str
) -> None:
    watched.refusals_expected = True
    watched.replies(json.dumps({"error": {"message": "quota used up"}}), status=status, **headers)
    watched.start_example()
    watched.says(phrase)
    assert "will appear here" in watched.shown()


def test_error_in_a_stream_is_shown(watched: Watched) -> None:
    watched.replies(
        frames({"type": "label", "index": 0, **label()}, {"error": {"message": "out of memory"}})
    )
    watched.start_example()
    watched.says("out of memory")
    assert "not compared with the report" in watched.shown()


def test_api_key_is_requested_sent_and_never_stored(watched: Watched) -> None:
    watched.refusals_expected = True
    watched.replies(json.dumps({"error": {"message": "no"}}), status=401)
    watched.start_example()
    watched.says("This server requires an API key: see Settings below.")
    assert focused(watched, "id") == "key"
    watched.page.keyboard.type("secret-1")
    watched.page.unroute_all()
    watched.replies(answered("Yes."))
    watched.run()
    assert "authorization" not in watched.posted[0].headers
    assert watched.posted[1].headers["authorization"] == "Bearer secret-1"
    kept = "() => [localStorage.length, sessionStorage.length, document.cookie, location.href]"
    assert watched.page.evaluate(kept) == [0, 0, "", f"{watched.server.url}/"]
    watched.page.reload()
    for name in ("key", "answer-question", "answer-text"):
        assert watched.page.locator(f"#{name}").input_value() == ""


def test_settings_are_sent(watched: Watched) -> None:
    watched.replies(answered("Yes."))
    watched.press("Load an example")
    watched.page.get_by_text("Settings", exact=True).click()
    watched.page.get_by_label("Maximum reply length in tokens").fill("32")
    watched.page.get_by_label("Temperature").fill("0.7")
    watched.page.get_by_label("Seed").fill("3")
    watched.run()
    sent = watched.posted[-1].post_data_json
    assert (sent["max_new_tokens"], sent["temperature"], sent["seed"]) == (32, 0.7, 3)
    assert sent["stream"] is True and sent["question"].endswith("?")
    assert "412 adults" in sent["text"]
    watched.page.get_by_label("Maximum reply length in tokens").fill("0")
    watched.press("Run")
    assert len(watched.posted) == 1  # not sent, and the browser shows why
    assert focused(watched, "id") == "max_new_tokens"


def test_missing_fields_are_requested(watched: Watched) -> None:
    watched.press("Run")
    watched.says("Enter a question first.")
    assert focused(watched, "id") == "answer-question"
    watched.page.keyboard.type("Why?")
    watched.press("Run")
    watched.says("Enter the report first.")
    assert watched.posted == []


def test_copied_text_includes_the_warnings(watched: Watched) -> None:
    text = "Fell by 48 mg."
    watched.replies(answered(text, warnings=[warning(text, "48")], abstained=True, threshold=0.55))
    watched.run_example()
    assert watched.copied().splitlines() == [
        "Too unsure to answer: no label reaches 55.0 %",
        "yes 42.1 %, no 30.0 %, maybe 27.8 %",
        "",
        "Explanation of the likeliest label, which is withheld:",
        text,
        "",
        "Check (number): “48”: 48 is not in the report",
        f"Written by clinGPT (m). {DISCLAIMER}",
    ]


def test_all_tabs_work_with_only_the_keyboard(watched: Watched) -> None:
    watched.at_most(7)
    keyboard = watched.page.keyboard
    keyboard.press("Tab")
    for name in ("Answer", "Summarise", "Document", "Explain"):
        tab = watched.page.get_by_role("tab", name=name)
        assert tab.evaluate("tab => tab.matches(':focus-visible')")
        assert tab.get_attribute("aria-selected") == "true"
        while not focused(watched, "className").startswith("load"):
            keyboard.press("Tab")
        keyboard.press("Enter")
        keyboard.press("Control+Enter")
        watched.says(DONE)
        while focused(watched, "role") != "tab":
            keyboard.press("Shift+Tab")
        keyboard.press("ArrowRight")
    assert watched.page.get_by_role("tab", name="Answer").get_attribute("aria-selected") == "true"
    for key, name in (("ArrowLeft", "Explain"), ("Home", "Answer"), ("End", "Explain")):
        keyboard.press(key)
        tab = watched.page.get_by_role("tab", name=name)
        assert tab.get_attribute("aria-selected") == "true"


def test_header_names_the_model_once_it_is_loaded(watched: Watched) -> None:
    from playwright.sync_api import expect

    model = watched.page.locator("#model")
    expect(model).to_have_text(re.compile("^model: .+"))
    watched.refusals_expected = True
    loading = json.dumps({"error": {"message": "the model is loading"}})
    answers = iter([503, 503, 200])
    watched.page.route("**/ready", lambda route: route.fulfill(status=next(answers), body=loading))
    watched.page.clock.install()
    watched.page.reload()
    expect(model).to_have_text("the model is loading…")
    watched.page.clock.run_for(2100)
    watched.page.clock.run_for(2100)
    expect(model).to_have_text(re.compile("^model: .+"))


NOT_TRAINED = "This model was not trained to summarize, only to answer."


def serve_model(watched: Watched, **facts: Any) -> None:
    """Open the page of a model about which the server knows these facts."""
    from playwright.sync_api import expect

    models = json.dumps({"data": [{"id": "m", "task_notes": {}, "generated_data": False} | facts]})
    watched.page.route("**/v1/models", lambda route: route.fulfill(body=models))
    watched.page.reload()
    expect(watched.page.locator("#model")).to_have_text("model: m")


def test_tab_of_a_task_that_was_not_trained_is_marked_and_says_so(watched: Watched) -> None:
    serve_model(watched, task_notes={"summarize": NOT_TRAINED})
    assert watched.page.locator("[role=tab].untrained").all_inner_texts() == ["Summarise"]
    assert not watched.panel().locator(".untrained-note").is_visible()
    watched.choose("Summarise")
    assert watched.panel().locator(".untrained-note").inner_text() == NOT_TRAINED
    assert watched.page.get_by_role("tab", name="Summarise").get_attribute("title") == NOT_TRAINED
    watched.replies(frames(result(summary="It fell.", task_note=NOT_TRAINED)))
    watched.run_example()
    assert NOT_TRAINED in watched.result(".facts .important").all_inner_texts()
    assert NOT_TRAINED in watched.copied()


def test_page_opens_with_a_task_that_was_trained(watched: Watched) -> None:
    serve_model(watched, task_notes={"answer": "no", "summarize": "no"})
    assert watched.panel().get_attribute("id") == "panel-document"
    watched.choose("Answer")
    watched.page.evaluate("() => nameModel()")  # as after a change of the API key
    assert watched.panel().get_attribute("id") == "panel-answer", "the user's choice is kept"


def test_example_suits_a_model_of_generated_abstracts(watched: Watched) -> None:
    serve_model(watched, generated_data=True)
    for task, name in zip(TASKS, ("Answer", "Summarise", "Document", "Explain"), strict=True):
        watched.choose(name)
        watched.press("Load an example")
        text = watched.page.locator(f"#{task}-text").input_value()
        assert text.startswith("PURPOSE: To find out whether intravenous tapipril helps.\n")
    question = watched.page.locator("#answer-question").input_value()
    assert question.endswith(" tapipril in frail patients with cancer?")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_every_screen_width(watched: Watched, scheme: str, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    text = f"{'long ' * 200}{'x' * 300}"
    sure = {"yes": 0.99987, "no": 0.00012, "maybe": 0.00001}
    watched.replies(answered(text, warnings=[warning(text, "x" * 300)], probabilities=sure))
    watched.page.emulate_media(color_scheme=scheme)
    watched.run_example()
    for width in (1280, 1000, 400, 360):
        watched.page.set_viewport_size({"width": width, "height": 740})
        assert watched.page.evaluate("() => document.documentElement.scrollWidth") == width
        heights = watched.page.locator("[role=tab]").evaluate_all(
            "all => all.map((tab) => tab.offsetHeight)"
        )
        assert max(heights) < 60, "a tab's name is wrapped"
        shares = watched.result(".share").evaluate_all("all => all.map((one) => one.offsetHeight)")
        assert len(shares) == 3 and max(shares) < 30, "a probability is wrapped"
        watched.page.locator("footer").scroll_into_view_if_needed()
        expect(watched.page.locator(".warning")).to_be_in_viewport(ratio=1)
        watched.page.screenshot(path=tmp_path / f"{scheme}_{width}.png", full_page=True)
    ground = watched.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]


def test_enter_in_the_key_field_sends_no_form(watched: Watched) -> None:
    watched.page.locator("summary").click()
    watched.page.locator("#key").fill("secret")
    watched.page.locator("#key").press("Enter")
    asked = [address for address in watched.asked if not address.endswith("/v1/models")]
    assert "secret" not in watched.page.url and "?" not in watched.page.url
    assert set(asked) == {f"{watched.server.url}/", f"{watched.server.url}/ready"}


def test_each_tab_keeps_its_own_text(watched: Watched) -> None:
    """Fields and results belong to one tab, and its request continues in the background."""
    watched.replies(answered("It does."))
    watched.start_example()
    watched.choose("Summarise")
    assert watched.page.locator("#summarize-text").input_value() == ""
    assert "will appear here" in watched.shown()
    watched.choose("Answer")
    watched.says(DONE)
    assert "It does." in watched.shown()


@pytest.mark.parametrize("strip", [True, False])
def test_pages_work_behind_a_proxy_that_adds_a_path(
    strip: bool, browser: Any, server: Server
) -> None:
    """With --root_path if the proxy forwards its path, and without it if the proxy removes it."""
    prefix, checkpoint = "/wards/clingpt", server.log.parent / "nonsense"
    with contextlib.ExitStack() as stack:
        if not strip:
            server = stack.enter_context(serving(checkpoint, f"--root_path={prefix}"))
        url = stack.enter_context(behind_proxy(server, prefix, strip=strip))
        page = browser.new_page()
        stack.callback(page.close)
        page.set_default_timeout(WAIT_MS)
        failed, asked = list[str](), list[str]()
        page.on("response", lambda r: failed.append(r.url) if r.status >= 400 else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{url}/")
        watched = Watched(page, server)
        watched.at_most(3)
        watched.run_example()
        page.goto(f"{url}/docs")
        page.get_by_text("/v1/models", exact=True).click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        page.locator(".live-responses-table").get_by_text("nonsense").first.wait_for()
        assert {f"{url}/v1/answer", f"{url}/openapi.json", f"{url}/v1/models"} <= set(asked)
        assert failed == []
