"""Measuring record by record: results depend on neither order, batch size nor interruptions."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from clingpt.base.errors import DataError
from clingpt.data.prepared import Prepared
from clingpt.data.synthetic import iter_records
from clingpt.decoding.decoders import make_decoder
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation import measure
from clingpt.evaluation.measure import (
    Evaluation,
    ResultStore,
    count_look,
    iter_pieces,
    passages_of,
    read_text,
)
from clingpt.evaluation.scorer import Scorer, context_passage, explanation_passage, passage_losses
from clingpt.nn import runtime
from clingpt.nn.runtime import Runtime
from clingpt.text.records import Record
from clingpt.text.tasks import prompt_text
from clingpt.text.tokenizer import EOT, Tokenizer
from model import GPT, GPTConfig

RECORDS = [*iter_records("test", count=7, seed=1)]
ODD = [
    Record(id="no question", question="", sections=(("RESULTS", "It fell by 3 mg."),)),
    Record(id="no text", question="Is it so?", sections=(), long_answer="No.", decision="no"),
    Record(id="long", question="Is it?", sections=(("A", "It was so, µ < 5. " * 90),)),
]
SAMPLING = Sampling(max_new_tokens=9)


@dataclass
class Folder:
    """A stand-in with the methods of Prepared that an evaluation calls."""

    kept: Sequence[Record]
    tasks: list[str] = field(default_factory=lambda: ["answer", "summarize", "explain"])

    def records(self, split: str) -> Iterator[Record]:
        return iter(self.kept)

    def record_ids(self, split: str) -> list[str]:
        return [record.id for record in self.kept]


def scorer(batch_size: int = 3) -> Scorer:
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layer=2, n_head=2, n_embd=32, block_size=256)).eval()
    for parameter in model.parameters():
        parameter.data *= 3
    rt = runtime.start(device="cpu")
    return Scorer(model, make_decoder(model, rt), Tokenizer.load(), rt, batch_size)


def measured(
    folder: Path, records: Sequence[Record], batch_size: int = 3, **others: Any
) -> dict[tuple[str, str], dict[str, Any]]:
    """Measure everything; return each stored result by its name and the record's id."""
    one = scorer(batch_size)
    data: Any = Folder(records)
    parts = ResultStore(folder, {"x": 1}, one.rt)
    evaluated = Evaluation(one, data, parts)
    evaluated.labels("labels", "test", reasoning_free=False)
    for name, passage_of in passages_of(data.tasks).items():
        evaluated.losses(name, "test", passage_of)
    for task in data.tasks:
        evaluated.texts(task, "test", SAMPLING, None)
    parts.gather()
    names = parts.names()
    assert all([item["n"] for item in parts.items(x)] == [*range(len(records))] for x in names)
    items = ((name, item) for name in names for item in parts.items(name))
    return {(name, records[item.pop("n")].id): item for name, item in items}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    return measured(tmp_path_factory.mktemp("whole"), RECORDS + ODD)


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_results_depend_on_neither_order_nor_batch_size(
    batch_size: int, whole: dict[tuple[str, str], dict[str, Any]], tmp_path: Path
) -> None:
    shuffled = (RECORDS + ODD)[::-1][3:] + (RECORDS + ODD)[::-1][:3]
    found = measured(tmp_path, shuffled, batch_size)
    assert found.keys() == whole.keys()
    for key, item in whole.items():
        if "nats" in item:
            item = {name: pytest.approx(value, rel=1e-6) for name, value in item.items()}
        assert found[key] == item, key  # labels and texts to the bit
    texts = {item["text"] for item in whole.values() if "text" in item}
    assert len(texts) > 10, "the model says too little for this test"


def test_record_without_a_passage_is_stored_as_done(
    whole: dict[tuple[str, str], dict[str, Any]],
) -> None:
    assert whole["labels", "no question"] == {} and "log_probs" in whole["labels", "no text"]
    assert whole["context", "no text"] == {} and whole["explanation", "long"] == {}
    assert whole["summarize", "no question"]["skipped"] == "no conclusion"
    assert whole["explain", "no question"]["skipped"] == "no conclusion"
    assert whole["prose", "long"] == {} and whole["prose", "no text"]["words"] == 1
    assert whole["explain", "no text"]["reference"] == "No."
    assert whole["labels", "long"]["trimmed_tokens"] > 0
    tokens = len(Tokenizer.load().encode(ODD[2].sections[0][1]))
    assert whole["context", "long"]["tokens"] == tokens > 256  # in windows, each token once


def test_interrupted_evaluation_continues_without_repeating_work(
    whole: dict[tuple[str, str], dict[str, Any]], tmp_path: Path
) -> None:
    """The evaluation is interrupted at every third stored result."""
    written: list[tuple[str, int]] = []
    real = ResultStore.add

    def add(parts: ResultStore, name: str, items: Any) -> None:
        items = list(items)
        real(parts, name, items)
        written.extend((name, n) for n, _ in items)
        if len(written) % 3 == 0:
            raise KeyboardInterrupt

    with mock.patch.object(ResultStore, "add", add), mock.patch.object(measure, "AHEAD", 1):
        for _attempt in range(99):
            try:
                found = measured(tmp_path, RECORDS + ODD, 2)
                break
            except KeyboardInterrupt:
                continue
    assert found == {
        key: {n: pytest.approx(v, rel=1e-6) for n, v in item.items()} if "nats" in item else item
        for key, item in whole.items()
    }
    assert len(written) == len(set(written)) == len(whole)


@torch.no_grad()
def test_losses_match_transformers_in_double_precision(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    theirs = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=32, n_positions=256)).eval()
    theirs.save_pretrained(tmp_path / "gpt2")
    model, tokenizer = GPT.from_pretrained(tmp_path / "gpt2").eval(), Tokenizer.load()
    ours = Scorer(model, model, tokenizer, runtime.start(device="cpu"), 3)
    text = " ".join(body for _, body in RECORDS[0].sections)
    context, explanation = context_passage(ours, text), explanation_passage(ours, RECORDS[0])
    found = passage_losses(ours, [context, explanation])
    lead = f"{prompt_text('answer', RECORDS[0])} {RECORDS[0].decision}\nExplanation:"
    answer = tokenizer.encode(explanation.text)
    for row, before, ids in (
        (found[0], [EOT], tokenizer.encode(text)),
        (found[1], tokenizer.encode(lead), [*answer, EOT]),
    ):
        logits = theirs.double()(torch.tensor([[*before, *ids]])).logits[0]
        table = logits[len(before) - 1 : -1].log_softmax(-1)
        nats = [-float(table[place, token]) for place, token in enumerate(ids)]
        end = nats.pop() if ids[-1] == EOT else 0.0
        assert row.tolist() == pytest.approx(
            [sum(nats), len(nats), end, float(ids[-1] == EOT)], rel=1e-5
        )


def test_prose_is_scored_only_for_models_trained_on_explain() -> None:
    names = ["context", "explanation"]
    assert list(passages_of(["answer", "summarize", "document", "text"])) == names
    assert list(passages_of(["explain"])) == [*names, "prose"]


def test_text_file_is_scored_once_in_pieces(tmp_path: Path) -> None:
    text = "A line of words, µ.\n" * 50 + "x" * 500
    path = tmp_path / "news.txt"
    path.write_text(text)
    with mock.patch.object(measure, "TEXT_PIECE", 200):
        pieces = list(iter_pieces(read_text(path)))
        assert "".join(pieces) == text and max(map(len, pieces)) <= 200 and len(pieces) > 6
        one = scorer()
        parts = ResultStore(tmp_path / "parts", {}, one.rt)
        data: Any = Folder([])
        Evaluation(one, data, parts).text_losses("text news.txt", path)
    parts.gather()
    items = list(parts.items("text news.txt"))
    assert sum(item["bytes"] for item in items) == len(text.encode())
    assert sum(item["tokens"] for item in items) == sum(
        len(one.tokenizer.encode(piece)) for piece in pieces
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [(b" \n", "contains no text"), (b"a\xff", r"is not UTF-8 \(byte 1\)"), (None, "cannot read")],
)
def test_unreadable_text_file_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "news.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"news.txt.*{message}|{message}.*news.txt"):
        read_text(path)


def test_evaluations_on_the_test_split_are_counted(tmp_path: Path) -> None:
    assert count_look(tmp_path, "best", "f", is_new=True) == 1
    assert count_look(tmp_path, "best", "f", is_new=False) == 1  # the same one, continued
    assert count_look(tmp_path, "last", "f", is_new=True) == 2
    assert count_look(tmp_path, "best", "other data", is_new=True) == 1
    lines = (tmp_path / "test_looks.jsonl").read_text().splitlines()
    assert [json.loads(line)["checkpoint"] for line in lines] == ["best", "last", "best"]


def test_prepared_has_the_methods_that_the_fake_folder_replaces() -> None:
    assert all(hasattr(Prepared, name) for name in ("records", "record_ids", "tasks"))


# The store of results

SETTINGS = {"split": "val", "texts": None}


@pytest.fixture
def rt() -> Runtime:
    return runtime.start(device="cpu")


def test_stored_results_are_not_measured_again(tmp_path: Path, rt: Runtime) -> None:
    parts = ResultStore(tmp_path / "parts", SETTINGS, rt)
    assert parts.is_new and parts.todo("labels", 4) == [0, 1, 2, 3]
    parts.add("labels", [(2, {"label": "yes"}), (0, {"label": "µ\n"})])
    again = ResultStore(tmp_path / "parts", SETTINGS, rt)
    assert not again.is_new and again.n_done() == 2
    assert again.todo("labels", 4) == [1, 3] and again.todo("labels", 2) == [1]
    assert again.todo("answer", 2) == [0, 1]
    again.add("labels", [(1, {"label": "no"})])
    again.gather()
    assert list(again.items("labels")) == [
        {"n": 0, "label": "µ\n"},
        {"n": 1, "label": "no"},
        {"n": 2, "label": "yes"},
    ]
    assert list(again.items("answer")) == [] and again.names() == ["labels"]
    again.remove()
    assert not (tmp_path / "parts").exists()


def test_other_settings_delete_the_stored_results(tmp_path: Path, rt: Runtime) -> None:
    ResultStore(tmp_path / "parts", SETTINGS, rt).add("labels", [(0, {})])
    other = ResultStore(tmp_path / "parts", SETTINGS | {"split": "test"}, rt)
    assert other.is_new and other.todo("labels", 1) == [0]


@pytest.mark.parametrize("end", ['{"n": 2, "lab', "{}\n", "[2]\n", "no JSON\n", '{"n": "2"}\n'])
def test_malformed_last_line_is_ignored_and_measured_again(
    end: str, tmp_path: Path, rt: Runtime
) -> None:
    parts = ResultStore(tmp_path / "parts", SETTINGS, rt)
    parts.add("text a.b.txt", [(0, {}), (1, {})])
    [path] = (tmp_path / "parts").glob("*.jsonl")
    path.write_text(path.read_text() + end)
    again = ResultStore(tmp_path / "parts", SETTINGS, rt)
    assert again.todo("text a.b.txt", 3) == [2]
    again.add("text a.b.txt", [(2, {"x": 1})])
    again.gather()
    assert [item["n"] for item in again.items("text a.b.txt")] == [0, 1, 2]


def test_processes_share_the_remaining_records(tmp_path: Path, rt: Runtime) -> None:
    """A later run with another number of processes reads the files of all."""
    ResultStore(tmp_path / "parts", SETTINGS, rt).add("labels", [(1, {})])
    ranks = [ResultStore(tmp_path / "parts", SETTINGS, replace(rt, rank=n)) for n in (0, 1)]
    shares = [[0, 3], [2, 4]]
    for parts, numbers in zip(ranks, shares, strict=True):
        parts.add("labels", ((n, {}) for n in numbers))
    alone = ResultStore(tmp_path / "parts", SETTINGS, rt)
    assert alone.todo("labels", 6) == [5] and len(list((tmp_path / "parts").glob("*.jsonl"))) == 2
    assert [item["n"] for item in alone.items("labels")] == [0, 1, 2, 3, 4]
