"""Model cards: parsed by the Hub's library, rendered by a Markdown parser, their commands run."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped]
from huggingface_hub import EvalResult, ModelCard, ModelCardData

import sample
from clingpt.base import settings
from clingpt.reports import DISCLAIMER
from clingpt.reports.render import model_card
from clingpt.text.tasks import TASKS
from clingpt.text.tokenizer import VOCAB_SIZE, Tokenizer
from model import GPT, GPTConfig
from tests.helpers.html_page import Parsed
from tests.helpers.markup import HOSTILE, SHOWN, hostile
from tests.helpers.reports import FINGERPRINT, bare_report, full_report, not_calibrated, typed


def head(card: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))
    return content


def read(card: str) -> ModelCardData:
    """Parse the metadata with the Hub's library."""
    data = ModelCard(card).data
    assert isinstance(data, ModelCardData)
    return data


def results(card: str) -> list[EvalResult]:
    return read(card).eval_results or []


def test_the_hub_library_reads_every_figure() -> None:
    report = full_report()
    card = model_card(typed(report), base="gpt2", tasks=["answer"], license="mit")
    data = read(card)
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    assert (data.language, data.license) == ("en", "mit")
    assert (data.base_model, data.model_name) == ("openai-community/gpt2", "pubmedqa")
    found = {(r.task_type, r.task_name, r.metric_name): r.metric_value for r in results(card)}
    model = report["labels"]["systems"]["model"]
    summaries = report["texts"]["summarize"]["systems"]["model"]
    about = ("question-answering", "yes / no / maybe")
    assert found[*about, "accuracy, 0 to 1"] == model["accuracy"]
    assert found[*about, "macro-F1, 0 to 1"] == pytest.approx(model["macro_f1"], abs=5e-5)
    assert found[*about, "calibration error, 0 to 1"] == 0.0316
    about = ("summarization", "summarize")
    for kind in ("1", "2", "L", "Lsum"):
        value = found[*about, f"ROUGE-{kind} F1, 0 to 100"]
        assert value == pytest.approx(summaries["rouge"][f"rouge{kind}"])
    assert found[*about, "BLEU (sacrebleu), 0 to 100"] == pytest.approx(summaries["bleu"]["score"])
    assert found["text-generation", "perplexity: context", "bits per byte"] == 0.7912
    assert len(found) == 3 + 3 * 5 + 2 * 2  # text files are not part of the data
    one = results(card)[0]
    assert one.dataset_name == "PubMedQA's official 500 test records"
    explained = [r.dataset_name for r in results(card) if r.task_name == "answer"]
    assert explained == ["60 of PubMedQA's official 500 test records"] * 5
    assert (one.dataset_type, one.dataset_split) == ("pubmedqa", "test")
    assert one.dataset_args == {"fingerprint": FINGERPRINT, "setting": "reasoning-required"}


def test_a_card_says_where_the_probabilities_are_not_calibrated() -> None:
    report = full_report()
    says = "Label probabilities are not calibrated: 0 mistakes in 300 validation records."
    assert says not in model_card(typed(report), base="gpt2", tasks=["answer"])
    report["calibration"] = not_calibrated()
    card = model_card(typed(report), base="gpt2", tasks=["answer"])
    assert says in card
    about = "calibration error of uncalibrated probabilities, 0 to 1"
    assert [r.metric_value for r in results(card) if r.metric_name == about] == [0.1174]
    report["calibration"] = not_calibrated(temperature=1.5)
    found = results(model_card(typed(report), base="gpt2", tasks=["answer"]))
    about = "calibration error of flattened, uncalibrated probabilities, 0 to 1"
    assert [r.metric_value for r in found if r.metric_name == about] == [0.0316]


def test_a_card_contains_only_measured_figures() -> None:
    bare = model_card(typed(bare_report()), base=None, tasks=["text"])
    assert [r.metric_type for r in results(bare)] == [
        "perplexity",
        "bits_per_byte",
    ]
    assert "Not measured: labels, calibration, texts, int8." in bare
    assert "Evaluated on validation records" in bare
    report = bare_report()
    report["perplexity"]["context"]["text"]["token_perplexity"] = float("inf")
    assert [r.metric_type for r in results(model_card(typed(report), base=None, tasks=[]))] == [
        "bits_per_byte"
    ]
    nothing = model_card(typed(bare_report() | {"perplexity": {}}), base=None, tasks=[])
    assert head(nothing).keys() == {"library_name", "pipeline_tag", "language", "tags"}
    assert results(nothing) == []
    assert "It continues text." in nothing


def test_a_perplexity_of_texts_that_were_only_read_stays_out_of_the_metadata() -> None:
    report = full_report()
    report["perplexity"]["context"]["trained"] = False
    report["perplexity"]["context"]["text"]["token_perplexity"] = 6_101_196.7219
    card = model_card(typed(report), base=None, tasks=["answer"])
    assert {r.task_name for r in results(card) if r.metric_type == "perplexity"} == {
        "perplexity: explanation"
    }
    assert "6101196" not in card.split("\n---\n")[0]
    assert "| context (not trained on) | 500 | 149,203 | 110,521 | 6,101,196.72 |" in card
    assert "Not trained on: context. Prompts carry no loss" in card


def test_a_card_says_where_a_baseline_is_better() -> None:
    report = full_report()
    worse = "the model is below the best baseline"
    assert worse not in model_card(typed(report), base=None, tasks=["answer"]).lower()
    proven = {"value": -0.5, "interval": {"low": -0.9, "high": -0.1}}
    report["labels"]["systems"]["majority"] |= {"accuracy": 0.7}
    report["labels"]["differences"]["majority"] |= {"accuracy": proven}
    report["texts"]["summarize"]["systems"]["lead-3"]["rouge"] |= {"rouge1": 35.9, "rougeL": 25.24}
    report["texts"]["summarize"]["differences"]["lead-3"] |= {"rouge1": proven}
    limits = model_card(typed(report), base=None, tasks=["answer"]).partition("## Limits")[2]
    assert f"- T{worse[1:]}: accuracy 65.0 against 70.0 (majority).\n" in limits
    # 25.2 against 25.2, as they are shown, is not worse.
    assert f"- For summarize, {worse}: R1 35.3 against 35.9 (lead-3).\n" in limits


@pytest.mark.parametrize(
    ("base", "on_the_hub", "said"),
    [
        ("gpt2-xl", "openai-community/gpt2-xl", "from openai-community/gpt2-xl."),
        ("some-body/GPT_2.b", "some-body/GPT_2.b", r"from some-body/GPT\_2.b."),
        ("out/first/best", None, "from the run first."),
        ("out/first", None, "from the run first."),
        ("/home/somebody/first/step_000100", None, "from the run first."),
        ("scratch", None, "from random weights."),
        (None, None, "from random weights."),
    ],
)
def test_a_card_names_the_checkpoint_that_training_started_from(
    base: str | None, on_the_hub: str | None, said: str
) -> None:
    card = model_card(typed(full_report()), base=base, tasks=["answer"])
    assert head(card).get("base_model") == on_the_hub
    assert said in card


def test_a_card_mentions_lora() -> None:
    card = model_card(typed(full_report()), base="gpt2", tasks=["answer"], lora_rank=8)
    assert "from openai-community/gpt2, with LoRA of rank 8 merged into the weights." in card
    assert head(card)["base_model"] == "openai-community/gpt2"
    assert "LoRA" not in model_card(typed(full_report()), base="gpt2", tasks=["answer"])


def test_a_card_has_its_sections_and_the_warning() -> None:
    card = model_card(typed(full_report()), base="gpt2", tasks=["answer", "summarize"])
    titles = ["Intended use", "Data", "Results", "Limits", "Use"]
    assert re.findall("^## (.*)$", card, re.MULTILINE) == titles
    for phrase in (
        f"**{DISCLAIMER}**",
        "124,439,808 parameters",
        f"fingerprint {FINGERPRINT}",
        "yes, no or maybe and an explanation; it summarises a report.",
        "| model | 65.0 | 60.7–69.1 | 50.5 | 47.2–56.1 |",
        "has been evaluated on the test split 2 times",
    ):
        assert phrase in card
    assert "Not measured" not in card
    assert "Checkpoints, on" not in card  # other checkpoints are not this one's results
    assert card.endswith("\n") and not card.endswith("\n\n")


def test_a_card_names_folders_without_their_path() -> None:
    report = full_report() | {"checkpoint": "/home/somebody/out/mine/step_000900"}
    report["data"]["folder"] = "/home/somebody/data/our notes"
    card = model_card(typed(report), base="/home/somebody/out/first/best", tasks=["answer"])
    assert "somebody" not in card
    assert head(card)["model-index"][0]["name"] == "mine"
    assert head(card)["model-index"][0]["results"][0]["dataset"]["type"] == "our-notes"


def test_no_string_breaks_the_metadata_or_becomes_markup() -> None:
    markdown_it = pytest.importorskip("markdown_it")
    report = hostile(full_report())
    report["data"]["name"] = f"---\n- a: 'b' # c\x85\u2028\ufeff\uffff \U0001f600 {HOSTILE}"
    card = model_card(typed(report), base=HOSTILE, tasks=["answer"], license=HOSTILE)
    name = f"--- - a: 'b' # c \ufeff\uffff \U0001f600 {SHOWN}"
    names = {name, f"60 of {name}", f"120 of {name}"}
    assert {result.dataset_name for result in results(card)} == names
    assert head(card)["license"] == SHOWN
    assert {result.dataset_split for result in results(card)} == {SHOWN}
    reader = markdown_it.MarkdownIt("gfm-like", {"linkify": False, "html": True})
    parsed = Parsed(reader.render(ModelCard(card).text))
    expected = {"h1", "h2", "p", "strong", "ul", "li", "pre", "code"}
    expected |= {"table", "thead", "tbody", "tr", "th", "td"}
    assert {tag for tag, _ in parsed.tags} == expected
    assert len(parsed.named("h2")) == 5
    assert len(parsed.named("li")) == 3
    assert name in parsed.text


@pytest.mark.parametrize("tasks", [[], *([task] for task in TASKS)])
def test_sample_accepts_the_command_of_a_card(tasks: list[str]) -> None:
    card = model_card(typed(full_report()), base=None, tasks=tasks)
    [command] = re.findall("`python sample.py (.*?)`", card)
    cfg = settings.parse(
        sample.SampleConfig, shlex.split(command), prog="sample.py", description=""
    )
    assert cfg.checkpoint == "FOLDER"
    assert (cfg.task or "text") == (tasks or ["text"])[0]


def test_the_code_for_transformers_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=VOCAB_SIZE, block_size=256, n_layer=1, n_head=1, n_embd=8))
    model.save_pretrained(tmp_path)
    Tokenizer.load().save(tmp_path)
    monkeypatch.chdir(tmp_path)
    card = model_card(typed(full_report()), base=None, tasks=["answer"])
    [lines] = re.findall("```python\n(.*?)```", card, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(lines, "README.md", "exec"), names)
    assert names["prompt"] == "Context:\nRESULTS: TEXT\nQuestion: QUESTION\nAnswer:"
    assert names["tokenizer"].decode(names["ids"].input_ids[0]) == names["prompt"]
    assert names["reply"].shape[1] > names["ids"].input_ids.shape[1]
    assert capsys.readouterr().out


def test_the_card_names_the_detectors_of_identifiers() -> None:
    receipt = {"format": 2, "done": "tags", "identifiers": {}, "detectors": {"rules": "a"}}
    card = model_card(typed(full_report()), base="gpt2", tasks=["answer"], receipts=[receipt])
    assert "found in the training text: 0 (identifiers were replaced by tags)." in card
    assert "Searched with: rules. What detectors miss is not counted." in card
