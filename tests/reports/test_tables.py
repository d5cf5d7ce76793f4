"""Tables of a report: the right figures, in the terminal and in Markdown, and no text as markup."""

from typing import Any

import pytest

from clingpt.base import console
from clingpt.reports import plots
from clingpt.reports.render import page
from clingpt.reports.tables import Table, as_markdown, as_text, plain, tables
from tests.helpers.html_page import Parsed
from tests.helpers.markup import hostile
from tests.helpers.reports import bare_report, full_report, not_calibrated, typed


def found(report: dict[str, Any], title: str) -> Table:
    [table] = [table for table in tables(typed(report)) if table.title.startswith(title)]
    return table


def test_figures_are_in_the_columns_that_name_them() -> None:
    report = full_report()
    labels = found(report, "yes / no / maybe: PubMedQA")
    assert labels.title == "yes / no / maybe: PubMedQA's official 500 test records, in percent"
    assert labels.texts()[2] == ["model", "65.0", "60.7–69.1", "50.5", "47.2–56.1"]
    assert labels.notes[-1] == "Bags of words were fitted on the 450 training records."
    classes = found(report, "The model by gold label")
    assert classes.texts()[1] == ["no", "60.2", "59.2", "59.7", "169", "58", "100", "11"]
    assert found(report, "Calibration").texts()[1] == ["calibrated", "0.032", "0.842", "0.489"]
    summaries = found(report, "summarize: ROUGE and BLEU")
    assert summaries.texts()[0] == ["reference", *["–"] * 7, "43", "62"]
    model = "model 35.3 12.6 25.2 24.1–26.3 27.7 6.3 0.89 38 31".split()
    assert summaries.texts()[-1] == model
    unsupported = found(report, "Texts with unsupported numbers, units, comparators or negations")
    rows = unsupported.texts()
    assert rows[5][:4] == ["summarize", "reference", "500", "8.4"]
    assert rows[-1] == ["document", "model", "120", *"15.5 10.8 1.6 2.3 4.7 0.22 9.3".split()]
    assert "cannot see a wrong disease, drug, outcome or patient group" in unsupported.notes[-1]
    terms = found(report, "Texts with unsupported terms, in percent")
    assert terms.texts()[5] == ["summarize", "reference", "500", "4.2", "0.05"]
    assert terms.texts()[-1] == ["document", "model", "120", "7.8", "0.09"]
    assert "and 81 words learned from 450 training texts" in terms.notes[0]
    assert "cannot see a term of the source in the wrong place" in terms.notes[-1]
    assert found(report, "document: headings").texts() == [
        ["96.2", "0.8", "94.1", "87.5", "41.2", "52.8", "47.1", "12.3", "22.9"]
    ]
    perplexity = found(report, "Corpus perplexity").texts()
    assert perplexity[0][1] == "500" and perplexity[2][1] == "–"
    assert perplexity[0][4:] == ["11.62", "11.27–11.97", "27.42", "0.7912", "11.50"]
    assert perplexity[2][-1] == "–"
    assert found(report, "8-bit").texts()[0][-2:] == ["+0.77%", "3.12%"]
    assert found(report, "Checkpoints").texts()[1][1:3] == ["0.7932", "0.0021"]
    assert found(report, "Checkpoints").texts()[3][1:3] == ["15.1", "1.2"]
    assert found(report, "Difference on").texts()[0][1:] == [
        "2.4",
        "-1.2 to +6.0",
        "3.1",
        "0.4–5.8",
    ]


def test_every_title_names_the_records_of_its_figures() -> None:
    report = full_report()
    report["labels"]["systems"]["model"]["n"] = 480
    titles = [table.title for table in tables(typed(report))]
    of = "of PubMedQA's official 500 test records"
    for title in (
        f"yes / no / maybe: 480 {of}, in percent",
        "Calibration of the label probabilities: PubMedQA's official 500 test records",
        f"answer: ROUGE and BLEU on 60 {of} against one reference each, 1.2 % stopped at the "
        "length limit",
        f"document: headings in percent, on 120 {of}, and ROUGE-L by section",
        "Difference on 500 records, in percentage points",
    ):
        assert title in titles
    agreeing = "In 98.4 % of 60 answers, the label in the text is the one that is scored highest."
    assert agreeing in found(report, "answer: ROUGE").notes
    records = [row[-1] for row in found(report, "Checkpoints").texts()]
    assert records == ["48 to 50", "50", "–", "–"]


GROUPS = {
    "common": {"records": 20, "rouge": {"nearest training record": 81.0, "model": 97.0}},
    "rare": {"records": 40, "rouge": {"nearest training record": 36.0, "model": 21.0}},
}


def split_report() -> dict[str, Any]:
    """A report whose explanations have common and rare references."""
    report = full_report()
    kinds = ("rouge1", "rouge2", "rougeL", "rougeLsum")
    report["texts"]["answer"]["by_reference"] = {
        kind: group
        | {
            "rouge": {
                name: dict.fromkeys(kinds, score) | {"signature": "x"}
                for name, score in group["rouge"].items()  # type: ignore[attr-defined]
            }
        }
        for kind, group in GROUPS.items()
    }
    return report


def test_common_and_rare_references_are_shown_apart() -> None:
    table = found(split_report(), "answer: ROUGE on 20")
    assert table.title == (
        "answer: ROUGE on 20 records with a common reference and 40 with a rare one"
    )
    assert list(table.columns) == [
        "system",
        *(f"{figure}, {kind}" for kind in ("common", "rare") for figure in ("R1", "R2", "RL")),
    ]
    assert table.texts() == [
        ["nearest training record", *["81.0"] * 3, *["36.0"] * 3],
        ["model", *["97.0"] * 3, *["21.0"] * 3],
    ]
    assert "ten commonest" not in table.notes[0] and "10 commonest" in table.notes[0]
    assert table.notes[1:] == [
        "On rare references, the model is below the best baseline: R1 21.0 against 36.0, R2 21.0 "
        "against 36.0, RL 21.0 against 36.0 (nearest training record)."
    ]
    tile = "<dt>answer: ROUGE-L, rare references</dt><dd><strong>21.0</strong><small>"
    assert f"{tile}on 40 of PubMedQA&#39;s official 500 test records; below the best" in page(
        typed(split_report())
    )


PROVEN = {"value": -0.095, "interval": {"low": -0.12, "high": -0.07}}


def test_the_table_says_where_the_best_baseline_is_better() -> None:
    report = full_report()
    assert not any(
        "below the best" in note for table in tables(typed(report)) for note in table.notes
    )
    page_before = page(typed(report))
    assert "best baseline 55.2 % (majority)" in page_before
    assert "below the best" not in page_before
    report["labels"]["systems"]["majority"] |= {"macro_f1": 0.6}
    report["labels"]["differences"]["majority"] |= {"macro_f1": PROVEN}
    assert found(report, "yes / no / maybe: PubMedQA").notes[0] == (
        "The model is below the best baseline: macro-F1 50.5 against 60.0 (majority)."
    )
    report["texts"]["summarize"]["systems"]["closest sentence"]["rouge"]["rougeL"] = 65.3
    report["texts"]["summarize"]["systems"]["lead-3"]["bleu"]["score"] = 9.04
    report["texts"]["summarize"]["differences"]["closest sentence"] |= {"rougeL": PROVEN}
    report["texts"]["summarize"]["differences"]["lead-3"] |= {"bleu": PROVEN}
    assert found(report, "summarize: ROUGE").notes[0] == (
        "The model is below the best baseline: RL 25.2 against 65.3 (closest sentence); "
        "BLEU 6.3 against 9.0 (lead-3)."
    )
    assert "below the best baseline 65.3 (closest sentence)" in page(typed(report))


def test_a_better_baseline_is_not_called_proven_if_the_difference_may_be_0() -> None:
    report = full_report()  # accuracy 65.0, macro-F1 50.5
    report["labels"]["systems"]["majority"] |= {"accuracy": 0.67, "macro_f1": 0.6}
    by_chance = {"value": -0.02, "interval": {"low": -0.05, "high": 0.01}}
    report["labels"]["differences"]["majority"] = {"accuracy": by_chance, "macro_f1": PROVEN}
    assert found(report, "yes / no / maybe: PubMedQA").notes[0] == (
        "The model is below the best baseline: accuracy 65.0 against 67.0, macro-F1 50.5 against "
        "60.0 (majority). Perhaps by chance, because the 95 % interval of the difference contains "
        "0: accuracy."
    )
    table = found(report, "yes / no / maybe: difference on the same records")
    majority = ["majority", "-2.0", "-5.0 to +1.0", "-9.5", "-12.0 to -7.0"]
    assert table.texts()[0] == majority
    report["texts"]["summarize"]["systems"]["closest sentence"]["rouge"]["rougeL"] = 26.0
    assert found(report, "summarize: ROUGE").notes[0].endswith("contains 0: RL.")
    table = found(report, "summarize: difference")
    assert [row[0] for row in table.texts()] == list(report["texts"]["summarize"]["differences"])
    assert table.texts()[0][1:] == ["+2.0", "0.4–3.6"] * 4


def test_a_perplexity_of_texts_that_were_only_read_is_never_shown_without_a_note() -> None:
    report = full_report()
    report["perplexity"]["context"]["trained"] = False
    table = found(report, "Corpus perplexity")
    assert table.texts()[0][0] == "context (not trained on)"
    assert "Not trained on: context. Prompts carry no loss" in table.notes[1]
    assert "the model was not trained to write such text" in page(typed(report))
    report["perplexity"]["context"]["trained"] = True
    assert len(found(report, "Corpus perplexity").notes) == 1


def test_measures_without_results_have_no_table() -> None:
    assert [table.title for table in tables(typed(bare_report()))] == ["Corpus perplexity"]
    assert tables(typed(bare_report() | {"perplexity": {}})) == []


def test_tasks_that_were_not_trained_are_named_under_their_figures() -> None:
    notes = {"answer": "Not trained to answer.", "summarize": "Not trained to summarize."}
    report = full_report() | {"task_notes": notes}
    assert found(report, "yes / no / maybe: PubMedQA").notes[0] == "Not trained to answer."
    assert found(report, "summarize: ROUGE").notes[0] == "Not trained to summarize."
    assert as_text(tables(typed(report))).count("Not trained to summarize.") == 1


def test_numbers_are_aligned_right_and_words_left() -> None:
    table = Table("t", ["system", "95 %", "x"], [["a", "1.0–2.0", None], ["7", "-1.0 to +2.0", 3]])
    assert table.numeric() == [False, True, True]
    assert "| --- | ---: | ---: |" in as_markdown([table])
    assert as_text([table]).splitlines()[-1] == "7       -1.0 to +2.0  3"
    assert Table("t", ["a", "b"], []).numeric() == [False, False]


def test_calibration_table_of_a_model_that_always_abstains() -> None:
    report = full_report()
    report["calibration"] |= {"abstained": 1.0, "accuracy_kept": None}
    assert (
        "below the threshold: 100.0 %. Accuracy of the answered rest: – %."
        in found(report, "Calibration").notes[1]
    )
    assert "100.0 %" not in (plots.risk_coverage(typed(report)) or "")
    assert "accuracy of these answers – %" in page(typed(report))


def test_calibration_table_says_where_the_probabilities_are_not_calibrated() -> None:
    report = full_report()
    assert "Threshold" not in (note := found(report, "Calibration").notes[0])
    unlike = (
        "Unlike the training data: 4.4 % of 498 prompts. The limit was set so that at most 2.5 % "
        "of the validation prompts are"
    )
    assert found(report, "Calibration").notes[-1].startswith(unlike)
    assert "Temperature 1.417 and threshold 52.1 %, chosen to answer 80 % of 50" in note
    report["calibration"] = not_calibrated()
    table = found(report, "Calibration")
    assert table.texts() == [["not calibrated", "0.117", "0.931", "0.513"]]
    assert table.notes[0].startswith("Not calibrated: 0 mistakes in 300 validation records. ")
    assert table.notes[1].startswith("Temperature 1.000 and threshold 99.9 %, ")
    report["calibration"] = not_calibrated(temperature=1.5) | {"unlike_training": None}
    assert "Unlike" not in found(report, "Calibration").notes[-1]
    assert [row[0] for row in found(report, "Calibration").texts()] == [
        "not calibrated",
        "flattened",
    ]


def test_calibration_table_gives_the_reason_that_holds() -> None:
    """At a bound of the temperature, the number of mistakes is not the reason."""
    report = full_report()
    report["calibration"] = not_calibrated(temperature=20.0)
    report["calibration"]["fitted_on"] |= {"mistakes": 150}
    report["calibration"] |= {"note": "not calibrated: 150 mistakes in 300 validation records"}
    note = found(report, "Calibration").notes[0]
    assert note == (
        "Not calibrated: 150 mistakes in 300 validation records. These do not determine a "
        "temperature between 0.05 and 20."
    )


def test_calibration_table_says_where_it_measures_the_records_of_the_fit() -> None:
    report = full_report()
    same = "Measured on the same records"
    assert report["split"] == "test" and same not in found(report, "Calibration").notes[0]
    report["split"] = "val"
    assert same in found(report, "Calibration").notes[0]
    report["data"]["fingerprint"] = "0" * 64
    assert same not in found(report, "Calibration").notes[0]


def test_a_coverage_of_1_has_no_threshold() -> None:
    report = full_report()
    report["calibration"] |= {"threshold": 0.0, "coverage": 1.0}
    assert "and no threshold, chosen to answer 100 %" in found(report, "Calibration").notes[0]


def test_outputs_without_a_label_are_counted_in_a_note() -> None:
    report = full_report()
    report["labels"]["systems"]["model"]["unparseable"] = 3
    assert "Outputs without a label, counted as wrong: model 3." in as_text(tables(typed(report)))


@pytest.mark.parametrize("columns", [80, 110])
def test_notes_are_wrapped_between_words(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    note = " ".join(["a well-known limit"] * 30)
    shown = as_text([Table("t", ["a"], [["1"]], notes=[note])]).split("\n", 4)
    wrapped = "\n".join(shown[4:])
    assert max(map(len, wrapped.splitlines())) <= columns
    assert " ".join(wrapped.split()) == note and "well-\n" not in wrapped
    title, _, _ = as_text([Table(note, ["a"], [["1"]])]).partition("\na\n")
    assert max(map(len, title.splitlines())) <= columns and " ".join(title.split()) == note


def test_markdown_shows_every_text_unchanged() -> None:
    """An independent Markdown parser finds the cells of the tables and no other markup."""
    markdown_it = pytest.importorskip("markdown_it")
    reader = markdown_it.MarkdownIt("gfm-like", {"linkify": False, "html": True})
    whole = tables(typed(hostile(full_report())))
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
def test_no_text_starts_a_markdown_block(text: str) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    parsed = Parsed(markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render(plain(text)))
    assert (parsed.tags, parsed.text) == ([("p", {})], f"{console.safe_line(text)}\n")


def test_addresses_do_not_become_links() -> None:
    # GitHub turns "://" and "www." in the source into links.
    assert (
        plain("see https://a.example, WWW.b.example") == r"see https:\//a.example, WWW\.b.example"
    )


def test_no_control_character_reaches_the_terminal() -> None:
    assert not console.UNSAFE.search(as_text(tables(typed(hostile(full_report())))))
