"""prepare.py --train_tokenizer: a vocabulary made from the training split alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import transformers

import prepare
import sample
from clingpt.base.errors import DataError
from clingpt.data.prepared import open_prepared
from clingpt.text.tasks import label_ids
from clingpt.text.tokenizer import EOT_TEXT, Tokenizer, train_tokenizer
from tests.helpers.commands import here, run, train_here
from tests.helpers.vocabularies import CORPUS

STRANGE = "zyzzyvaxolotl"
SIZE = 400
FLAGS = ("--task=summarize", "--block_size=256")


def rows(held_out: str = "a report about sleep") -> list[dict[str, Any]]:
    """Return 40 training records, and a val and a test record with the given text."""
    train = [
        {"input": f"Report {n}: the wound had healed well.", "target": f"Wound {n} healed."}
        for n in range(40)
    ]
    train = [row | {"split": "train"} for row in train]
    others = [{"input": f"{held_out} {n}. " * 40, "target": held_out} for n in range(2)]
    return train + [row | {"split": s} for row, s in zip(others, ("val", "test"), strict=True)]


def prepared(
    folder: Path,
    records: list[dict[str, Any]],
    *flags: str,
    size: int = SIZE,
    workers: int = 0,
) -> Tokenizer:
    """Prepare records with a tokenizer trained on them, and return it."""
    source = folder.with_suffix(".jsonl")
    lines = (json.dumps({"id": f"r{n}", **row}) + "\n" for n, row in enumerate(records))
    source.write_text("".join(lines), "utf-8")
    fixed = [*FLAGS, f"--source={source}", f"--out={folder}", f"--workers={workers}"]
    done = here(prepare.main, *fixed, f"--train_tokenizer={size}", *flags)
    assert done.returncode == 0, done.stderr
    return open_prepared(folder).tokenizer


def spelled(tokenizer: Tokenizer) -> set[str]:
    return {tokenizer.decode([n]) for n in range(tokenizer.size)}


def test_held_out_text_never_shapes_the_vocabulary(tmp_path: Path) -> None:
    plain = prepared(tmp_path / "plain", rows())
    strange = prepared(tmp_path / "strange", rows(STRANGE))
    assert strange.fingerprint == plain.fingerprint
    # The same text in the training split would be in the vocabulary.
    seen = prepared(
        tmp_path / "seen",
        [*rows(), rows(STRANGE)[-1] | {"split": "train"}],
    )
    assert any(STRANGE in token for token in spelled(seen))


def test_dropped_copies_and_unweighted_records_do_not_either(tmp_path: Path) -> None:
    text = " ".join(f"{STRANGE}{n % 7}" for n in range(60))
    copy = {"input": text, "target": "Strange."}
    records = [*rows(), copy | {"split": "train"}, copy | {"split": "test"}]
    dropping = prepared(tmp_path / "dropping", records, "--drop_overlap=True")
    assert not any("zyz" in token for token in spelled(dropping))
    keeping = prepared(tmp_path / "keeping", records, "--allow_overlap=True")
    assert any("zyz" in token for token in spelled(keeping))


def test_redaction_comes_first(tmp_path: Path) -> None:
    named = [row | {"input": f"{row['input']} Dr. Katarzyna Wolanska."} for row in rows()]
    kept = prepared(tmp_path / "kept", named, "--allow_phi=True")
    assert any("Wolanska" in token for token in spelled(kept))
    redacted = prepared(tmp_path / "redacted", named, "--redact=tags")
    assert not any("Wolan" in token or "Katar" in token for token in spelled(redacted))


def test_workers_and_order_change_nothing(tmp_path: Path) -> None:
    """Two processes, and 1,100 records so that they are started."""
    records = [
        row | {"input": f"{row['input']} Day {n}.", "split": row["split"]}
        for n in range(28)
        for row in rows()[:40]
    ]
    records += rows()[40:]
    one = prepared(tmp_path / "one", records)
    two = prepared(tmp_path / "two", records, workers=2)
    backwards = prepared(tmp_path / "backwards", records[::-1])
    assert one.fingerprint == two.fingerprint == backwards.fingerprint
    assert (tmp_path / "one/train.bin").read_bytes() == (tmp_path / "two/train.bin").read_bytes()


def test_a_dry_run_counts_the_same_tokens_and_writes_nothing(tmp_path: Path) -> None:
    prepared(tmp_path / "real", rows())
    source, out = tmp_path / "real.jsonl", tmp_path / "dry"
    done = here(
        prepare.main,
        f"--source={source}",
        f"--out={out}",
        *FLAGS,
        "--train_tokenizer=400",
        "--dry_run",
    )
    assert done.returncode == 0 and not out.exists()
    n_tokens = open_prepared(tmp_path / "real").manifest["counts"]["train"]["tokens"]
    assert f"{n_tokens:,}" in done.stdout.split("Examples")[0]
    assert "Trained a tokenizer of " in done.stdout


def test_the_vocabulary_is_that_of_tokenizers_with_gpt2s_order_of_ids(tmp_path: Path) -> None:
    made = train_tokenizer(CORPUS * 3, SIZE)
    assert made.size == SIZE and made.eot == SIZE - 1 and made.eot_text == EOT_TEXT
    assert made.decode([0]) == "!"
    made.save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == made.fingerprint
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in (*CORPUS, "words that it has never seen: Ωμέγα 🩺\n\n  x"):
        assert made.encode(text) == theirs.encode(text).ids
        assert made.decode(made.encode(text)) == text


def test_too_little_text_makes_a_smaller_vocabulary_and_says_so(tmp_path: Path) -> None:
    source = tmp_path / "few.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows()), "utf-8")
    flags = [*FLAGS, "--train_tokenizer=5000", f"--out={tmp_path / 'few'}"]
    done = here(prepare.main, f"--source={source}", *flags)
    size = open_prepared(tmp_path / "few").tokenizer.size
    assert size < 400
    line = f"Trained a tokenizer of {size} tokens on train, fewer than 5,000, because no other pair"
    assert line in done.stdout
    assert "--init_from=scratch" in done.stdout  # in the command that comes next


def test_an_unreadable_record_ends_it_in_one_line() -> None:
    def texts() -> Iterator[str]:
        yield "a text"
        raise DataError("the file changed while it was read")

    with pytest.raises(DataError, match="the file changed"):
        train_tokenizer(texts(), SIZE)


def test_canaries_are_not_in_the_vocabulary(tmp_path: Path) -> None:
    plain = prepared(tmp_path / "plain", rows())
    assert prepared(tmp_path / "planted", rows(), "--canaries=8").fingerprint == plain.fingerprint


def test_labels_and_cues_become_tokens(tmp_path: Path) -> None:
    flags = ["--source=synthetic", "--synthetic_records=300", "--synthetic_held_out=20"]
    flags += ["--tasks", "answer", "text", "--train_tokenizer=1000", f"--out={tmp_path / 'data'}"]
    assert here(prepare.main, *flags, "--workers=0").returncode == 0
    tokenizer = open_prepared(tmp_path / "data").tokenizer
    assert {len(ids) for ids in label_ids(tokenizer)} == {1}
    assert {"Explanation", "Question", "Context"} <= spelled(tokenizer)


def test_a_model_from_scratch_takes_it_and_opens_elsewhere(tmp_path: Path) -> None:
    made = prepared(tmp_path / "data", rows())
    out = tmp_path / "run"
    assert train_here(f"--data={tmp_path / 'data'}", f"--out={out}", "--steps=1") == 0
    theirs = transformers.AutoTokenizer.from_pretrained(out / "last")
    text = "Report 7: the wound had healed."
    assert theirs.encode(text) == made.encode(text)
    config = json.loads((out / "last/config.json").read_text())
    assert (config["vocab_size"], config["eos_token_id"]) == (made.size, made.eot)
    flags = [f"--checkpoint={out / 'last'}", "--task=summarize", "--max_new_tokens=4"]
    done = here(sample.main, *flags, "--device=cpu", stdin=json.dumps({"text": text}))
    assert done.returncode == 0, done.stderr
    # Data for the next phase, and again from the folder of the first.
    data = tmp_path / "next"
    flags = [f"--source={tmp_path / 'data.jsonl'}", f"--out={data}", "--task=text", "--workers=0"]
    for source in (out, tmp_path / "data"):
        assert here(prepare.main, *flags, f"--tokenizer={source}").returncode == 0
        assert open_prepared(data).tokenizer.fingerprint == made.fingerprint


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--train_tokenizer=256"], "must be at least 257 and at most 65536, got 256"),
        (["--train_tokenizer=65537"], "must be at least 257 and at most 65536, got 65537"),
        (["--train_tokenizer=400", "--tokenizer=out/x"], "pass one of --tokenizer and --train"),
    ],
)
def test_mistaken_flags_are_refused(flags: list[str], reason: str) -> None:
    done = run("prepare.py", "--source=synthetic", *flags, check=False)
    assert done.returncode == 2 and reason in done.stderr


def test_ids_up_to_the_largest_size_fit_sixteen_bits(tmp_path: Path) -> None:
    made = prepared(tmp_path / "data", rows(), size=65_536)
    tokens = open_prepared(tmp_path / "data").split("train").tokens
    assert tokens.dtype == np.uint16 and int(tokens.max()) == made.eot
