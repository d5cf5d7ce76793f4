"""audit.py as a command: it finds what an overfitted model memorised, and nothing else."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

import audit
from clingpt.base import console
from clingpt.base.errors import CheckpointError
from clingpt.base.files import write_whole
from clingpt.data import canaries, synthetic
from clingpt.data.canaries import make_canaries, planted_records, to_json
from clingpt.data.prepared import FolderWriter
from clingpt.nn.checkpoint import load_model, verify
from clingpt.privacy.identifiers import Found
from clingpt.reports.audit import HEADING, in_markdown, sentences
from clingpt.reports.render import with_audit
from clingpt.text.records import SPLITS, Record
from clingpt.text.tasks import NotApplicable, make_example, text_windows
from clingpt.text.tokenizer import Tokenizer
from model import GPT, GPTConfig
from tests.helpers.commands import exit_status, train_here
from tests.helpers.folders import add_record

GPT2 = Tokenizer.load()
PLANTED = 6
RECORDS = 12
SMALL = ["--shown_tokens=20", "--continued_tokens=8", "--secrets=255", "--device=cpu"]
SMALL += ["--samples=20", "--sample_tokens=48"]


def find_words(text: str) -> Iterable[Found]:
    """Find words, of which even an untrained model writes some."""
    return [Found("word", *match.span()) for match in re.finditer(r"\b[a-z]{4,}\b", text)]


@pytest.fixture(autouse=True)
def finder() -> Iterator[None]:
    with mock.patch.object(audit, "find_identifiers", find_words):
        yield


def write_folder(folder: Path, *tasks: str, planted: int, empty: str = "") -> Path:
    """Write synthetic records and canaries as prepare.py does."""
    made = make_canaries(planted, seed=1) if planted else []
    with FolderWriter(folder, GPT2) as writer:
        for split in SPLITS:
            kept = [] if split == empty else explained_records(split)
            for record in kept + [*planted_records(made)] * (split == "train"):
                add_record(writer, split, record, [*examples(record, tasks)])
        writer.finish({"tasks": list(tasks), "block_size": 256})
    if made:
        (folder / canaries.FILE).write_text(json.dumps(to_json(made)))
    return folder


def explained_records(split: str) -> list[Record]:
    records = synthetic.iter_records(split, count=10 * RECORDS, seed=1)
    return [*islice((record for record in records if record.long_answer), RECORDS)]


def examples(record: Record, tasks: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for task in tasks:
        try:
            if task == "text":
                yield from (("text", window) for window in text_windows(record, GPT2, budget=256))
            else:
                yield task, make_example(task, record, GPT2, budget=256)
        except NotApplicable:
            continue


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "mine", "answer", planted=PLANTED)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save an untrained model."""
    folder = tmp_path_factory.mktemp("fresh") / "random"
    folder.mkdir()
    torch.manual_seed(3)
    GPT(GPTConfig(n_layer=2, n_head=2, n_embd=32, block_size=256)).save_pretrained(folder)
    GPT2.save(folder)
    return folder


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory: pytest.TempPathFactory, data: Path, fresh: Path) -> Path:
    """Train the untrained model for 45 epochs on the prepared folder."""
    run = tmp_path_factory.mktemp("out") / "mine"
    flags = ["--steps=120", "--learning_rate=2e-2", "--warmup_steps=10", "--dropout=0"]
    flags += ["--eval_every=120", "--sample=False", "--batch_size=4", "--micro_batch_size=4"]
    assert train_here(f"--data={data}", f"--out={run}", f"--init_from={fresh}", *flags) == 0
    return run


@dataclass(frozen=True)
class Audited:
    report: dict[str, Any]
    printed: str


@pytest.fixture(scope="module")
def audited(overfitted: Path) -> Audited:
    """Audit the overfitted model against the base model that its card names."""
    with (
        mock.patch.object(audit, "find_identifiers", find_words),
        mock.patch.object(console, "say") as say,
    ):
        assert exit_status(audit.main, f"--checkpoint={overfitted}", *SMALL) == 0
    printed = "\n".join(str(call.args[0]) for call in say.call_args_list)
    return Audited(json.loads((overfitted / "audit/audit.json").read_text()), printed)


def groups(report: dict[str, Any], of: str) -> dict[int, dict[str, Any]]:
    return {group["copies"]: group for group in report["exposure"]["groups"][of]}


def rows(report: dict[str, Any], part: str) -> dict[tuple[str, str], dict[str, Any]]:
    entries = (entry for entry in report["extraction"] if entry["part"] == part)
    return {(entry["of"], entry["split"]): entry for entry in entries}


# ------------------------------------------------------------------------------------------------
# Canaries


def test_planted_canaries_reach_almost_the_maximal_exposure(audited: Audited) -> None:
    found, exposure = groups(audited.report, "model"), audited.report["exposure"]
    assert exposure["ceiling"] == 8 and exposure["chance"] == pytest.approx(1.42, abs=0.01)
    assert {copies: len(group["exposures"]) for copies, group in found.items()} == {
        0: PLANTED, 1: 2, 4: 2, 16: 2
    }  # fmt: skip
    assert found[16]["mean"] > 7.9 and found[16]["p"] < 0.001
    assert found[4]["mean"] > 6 and found[4]["p"] < 0.01
    assert "Secrets planted 16 times: exposure 8.00 bits (chance 1.42" in audited.printed
    assert "with 255 other secrets): memorised, p = 0.00018." in audited.printed


def test_held_back_canaries_have_chance_exposure(audited: Audited) -> None:
    """The negative control: same model and measure, secrets that were never planted."""
    control = groups(audited.report, "model")[0]
    assert control["p"] > 0.01 and control["mean"] < 3
    assert max(control["exposures"]) < 7
    assert "Secrets that were generated but never planted, the control: exposure" in audited.printed


def test_untrained_model_has_chance_exposure(audited: Audited) -> None:
    for copies, group in groups(audited.report, "base").items():
        assert group["p"] > 0.01, copies
        assert group["at_ceiling"] == 0
    every = [x for group in groups(audited.report, "base").values() for x in group["exposures"]]
    assert sum(every) / len(every) == pytest.approx(1.42, abs=1)


# ------------------------------------------------------------------------------------------------
# The other measures


def test_only_training_replies_are_continued_verbatim(audited: Audited) -> None:
    replies, contexts = rows(audited.report, "target"), rows(audited.report, "context")
    train = replies["model", "train"]
    assert train["n"] == RECORDS  # canaries are not records
    assert train["share"] > 0.7 and train["longest_run"] > 0.8
    for control in (("model", "test"), ("base", "train"), ("base", "test")):
        assert replies[control]["hits"] == 0 and replies[control]["longest_run"] < 0.6
    assert contexts["model", "train"]["n"] == RECORDS
    assert contexts["model", "train"]["hits"] == 0  # contexts carry no loss
    assert f"Of {train['n']} training records long enough for this, the model continued" in (
        audited.printed
    )


def test_membership_is_inferred_from_losses(audited: Audited) -> None:
    found = audited.report["membership"]
    assert found["auc"] > 0.95 and found["interval"]["low"] > 0.6
    assert (found["members"], found["others"]) == (RECORDS, RECORDS)


def test_identifiers_are_counted_for_model_and_base(audited: Audited) -> None:
    found = audited.report["identifiers"]
    assert found.keys() == {"model", "base"}
    for entry in found.values():
        assert entry["samples"]["n"] == entry["in_training"]["n"] == 20
        for counts in entry["kinds"].values():
            assert counts["in_training"] <= counts["distinct"] <= counts["found"]
    assert found["model"]["samples"]["hits"] > 0 and found["base"]["samples"]["hits"] > 0
    shares = {
        of: entry["kinds"]["word"]["in_training"] / entry["kinds"]["word"]["distinct"]
        for of, entry in found.items()
    }
    assert shares["model"] > 10 * shares["base"]


def test_report_contains_no_secret_and_no_training_text(audited: Audited, overfitted: Path) -> None:
    texts = [audited.printed, (overfitted / "best" / "audit.md").read_text()]
    texts += [path.read_text() for path in (overfitted / "audit").iterdir()]
    assert len(texts) == 4
    words = [" ".join(text.split()) for text in texts]
    for text in words:
        for one in make_canaries(PLANTED, seed=1):
            assert one.secret not in text and one.name not in text
        for record in explained_records("train"):
            assert record.question not in text and record.long_answer
            assert record.long_answer[:40] not in text
            for _, section in record.sections:
                assert section[:40] not in text


# ------------------------------------------------------------------------------------------------
# The card


def test_model_card_shows_the_audit_once_and_eval_keeps_it(
    audited: Audited, overfitted: Path
) -> None:
    import eval as evaluate

    best, readme = overfitted / "best", overfitted / "best" / "README.md"
    assert "eval.py will add it to the model card." in audited.printed
    flags = [f"--checkpoint={best}", "--split=test", "--texts=0", "--device=cpu"]
    assert exit_status(evaluate.main, *flags) == 0
    card = readme.read_text()
    section = (best / "audit.md").read_text().strip()
    assert card.count(HEADING) == 1 and section in card
    assert card.index(HEADING) < card.index("## Limits") < card.index("## Use")
    assert "Secrets planted 16 times" in card

    write_whole(best / "audit.md", f"{HEADING}\n\nNothing.\n")
    again = with_audit(card, best)
    assert again == card.replace(section, f"{HEADING}\n\nNothing.")
    assert with_audit(again, best) == again
    write_whole(best / "audit.md", section + "\n")
    verify(best)  # a checkpoint with an audit is whole


def test_audit_is_appended_to_a_card_without_the_usual_sections(tmp_path: Path) -> None:
    assert with_audit("# Mine\n", tmp_path) == "# Mine\n"
    (tmp_path / "audit.md").write_text(f"{HEADING}\n\nA.\n")
    once = with_audit("# Mine\n", tmp_path)
    assert once == f"# Mine\n\n{HEADING}\n\nA.\n\n"
    assert with_audit(once, tmp_path) == once


def test_audit_on_other_data_does_not_change_the_card(
    overfitted: Path, audited: Audited, tmp_path: Path
) -> None:
    del audited
    before = (overfitted / "best/audit.md").read_text()
    other = write_folder(tmp_path / "other", "answer", planted=0)
    flags = [*SMALL, "--samples=0", f"--data={other}", f"--out={tmp_path}/audit"]
    flags.remove("--samples=20")
    assert exit_status(audit.main, f"--checkpoint={overfitted}", *flags) == 0
    assert (overfitted / "best/audit.md").read_text() == before
    report = json.loads((tmp_path / "audit/audit.json").read_text())
    assert report["identifiers"] == {}
    assert "Canaries were not measured: none were planted" in "\n".join(sentences(report))


# ------------------------------------------------------------------------------------------------
# Other folders, other models


def audit_fresh(fresh: Path, data: Path, out: Path, *flags: str) -> dict[str, Any]:
    common = [
        f"--checkpoint={fresh}",
        f"--data={data}",
        f"--out={out}",
        *SMALL[:2],
        "--samples=0",
        "--secrets=15",
    ]
    assert exit_status(audit.main, *common, *flags) == 0
    report: dict[str, Any] = json.loads((out / "audit.json").read_text())
    return report


def test_report_without_a_base_names_the_missing_controls(
    fresh: Path, data: Path, tmp_path: Path
) -> None:
    report = audit_fresh(fresh, data, tmp_path / "audit")
    assert report["membership"] is None and report["exposure"]["groups"].keys() == {"model"}
    text = in_markdown(report)
    assert "the checkpoint does not name its base model; specify it" in text
    assert not (fresh / "audit.md").exists()


@pytest.mark.parametrize("task", ["document", "text", "summarize"])
def test_every_task_can_be_audited(task: str, fresh: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", task, planted=3)
    report = audit_fresh(fresh, folder, tmp_path / "audit", f"--base={fresh}")
    assert report["task"] == task and "why" not in report["exposure"]
    target, context = rows(report, "target"), rows(report, "context")
    if task == "document":  # its target repeats its prompt
        assert not target
        assert "writing them is not evidence of memorisation" in "\n".join(sentences(report))
    else:
        assert target["model", "train"]["n"] > 0
    assert (context["model", "train"]["n"] > 0) == (task != "text")  # which has no prompt
    assert report["membership"]["auc"] == 0.5  # of a model and itself


def test_report_says_when_no_record_is_long_enough(fresh: Path, data: Path, tmp_path: Path) -> None:
    report = audit_fresh(fresh, data, tmp_path / "audit", "--batch_size=2")
    for entry in report["extraction"]:
        entry |= {"n": 0, "hits": 0, "share": None, "interval": None, "longest_run": None}
        entry |= {"usual": 23 if entry["part"] == "target" else -8}
    text = "\n".join(sentences(report))
    assert text.count("No training record is long enough to continue for") == 2
    assert "); half of them are long enough with --continued_tokens=23." in text
    half = (report["settings"]["shown_tokens"] - 8) // 2
    assert f"with --shown_tokens={half} --continued_tokens={half}." in text


def test_by_default_short_replies_are_measured(fresh: Path, data: Path, tmp_path: Path) -> None:
    """Their median length decides: a fixed 50 tokens would measure none of the quickstart's."""
    flags = [f"--checkpoint={fresh}", f"--data={data}", "--samples=0", "--secrets=9"]
    flags += ["--device=cpu", f"--out={tmp_path / 'audit'}"]
    assert exit_status(audit.main, *flags) == 0
    report = json.loads((tmp_path / "audit/audit.json").read_text())
    target = next(entry for entry in report["extraction"] if entry["part"] == "target")
    assert 10 <= target["tokens"] == target["usual"] < 50
    assert target["n"] >= RECORDS / 2
    context = next(entry for entry in report["extraction"] if entry["part"] == "context")
    assert context["tokens"] == 50 and report["settings"]["records"] == N_TRAINED


N_TRAINED = 54  # twelve records and the copies of canaries


@pytest.mark.parametrize(
    ("flags", "speed", "samples", "said"),
    [
        ([], 1e-6, 1000, ""),
        (["--samples=30"], 1e-6, 30, ""),
        ([], 0.1, 20, f"; --records={N_TRAINED} --samples=1000 would take about "),
        (["--samples=900", "--records=9"], 0.1, 900, ""),  # obeyed, however long it takes
    ],
)
def test_as_much_is_measured_as_fits_into_five_minutes(
    flags: list[str],
    speed: float,
    samples: int,
    said: str,
    fresh: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reports: list[dict[str, Any]] = []
    monkeypatch.setattr(audit, "seconds_per_token", lambda _: (speed, speed / 10))
    monkeypatch.setattr(audit, "measure", lambda audit: {"chosen": audit.cfg})
    monkeypatch.setattr(audit, "write", lambda folder, loaded, report: reports.append(report))
    given = [f"--checkpoint={fresh}", f"--data={data}", "--device=cpu", *flags]
    assert exit_status(audit.main, *given) == 0
    chosen = reports[0]["chosen"]
    assert chosen.samples == samples and 9 <= chosen.records <= N_TRAINED
    [note] = capsys.readouterr().err.splitlines()
    assert note.startswith(f"auditing {chosen.records:,} records per split and {samples:,} texts: ")
    assert said in note and ("would take" in note) == bool(said)


def test_report_says_when_the_control_fails(audited: Audited) -> None:
    report = json.loads(json.dumps(audited.report))
    groups(report, "model")[0]["p"] = 1e-5
    assert (
        "the control failed, so do not rely on the exposure of the planted secrets"
        in in_markdown(report)
    )


def test_insignificant_exposure_is_not_called_memorised(audited: Audited) -> None:
    report = json.loads(json.dumps(audited.report))
    groups(report, "model")[1] |= {"p": 0.2, "mean": 2.5}
    [said] = [one for one in sentences(report) if "planted once" in one]
    assert "2.50 bits" in said and said.endswith("indistinguishable from chance, p = 0.2.")


def test_unavailable_base_is_an_error_only_if_requested(overfitted: Path, tmp_path: Path) -> None:
    loaded = load_model(overfitted)
    loaded.card["settings"]["init_from"] = "./gone"
    cfg = audit.AuditConfig(checkpoint=str(overfitted))
    assert audit.open_base(cfg, loaded) == (None, "./gone is not available; specify --base=FOLDER")
    loaded.card["settings"]["init_from"] = "scratch"
    assert audit.open_base(cfg, loaded) == (None, "it was trained from random weights")
    with pytest.raises(CheckpointError, match="none is not a folder"):
        audit.open_base(audit.AuditConfig(base=f"{tmp_path}/none"), loaded)


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(audit.main, "--help") == 0
    printed = capsys.readouterr().out
    assert all(f"--{name}" in printed for name in audit.AuditConfig.__dataclass_fields__)


MISTAKES = [
    (["--records=0"], 2, "records must be at least 1"),
    (["--secrets=0"], 2, "secrets must be at least 1"),
    (["--sample=5"], 2, "did you mean --samples"),
    (["--checkpoint=./none"], 1, "./none is not a folder"),
    (["--checkpoint={fresh}"], 2, "does not name its training data; specify"),
    (["--checkpoint={fresh}", "--data={none}"], 1, "is not prepared data"),
    (
        ["--checkpoint={fresh}", "--data={no_test}"],
        1,
        "has no test records; prepare it with more records or a",
    ),
    (["--checkpoint={fresh}", "--data={broken}"], 1, "canaries.json is not JSON"),
    (["--checkpoint={fresh}", "--data={strange}"], 1, "canaries.json has no format number"),
    (["--checkpoint={fresh}", "--data={good}", "--base=./none"], 1, "./none is not a folder"),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, fresh: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("places")
    found = {name: root / name for name in ("none", "no_test", "broken", "strange", "good")}
    write_folder(found["no_test"], "answer", planted=0, empty="test")
    for name, content in (("broken", "{"), ("strange", "{}"), ("good", None)):
        write_folder(found[name], "answer", planted=0)
        if content is not None:
            (found[name] / canaries.FILE).write_text(content)
    return found | {"fresh": fresh}


@pytest.mark.parametrize(("flags", "status", "phrase"), MISTAKES)
def test_a_users_mistake_prints_one_line(
    flags: list[str],
    status: int,
    phrase: str,
    places: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [flag.format_map(places) for flag in flags]
    assert exit_status(audit.main, *flags, "--device=cpu") == status
    error = capsys.readouterr().err
    assert phrase in error and error.count("\n") == 1 and "Traceback" not in error
