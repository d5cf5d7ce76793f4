"""Byte-level BPEs of other sizes than GPT-2's, trained by `tokenizers` in the test."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from clingpt.text.tokenizer import EOT_TEXT, Tokenizer

CORPUS = [
    "Does metformin lower HbA1c? Answer: yes\nExplanation: It lowered HbA1c by 1.2% (P < 0.001).",
    "RESULTS: Pain fell by 31% with the drug and by 8% with placebo; it's maybe less, or no more.",
    "Dose: 50 µg/kg b.i.d., β-blocker   \n\n Na⁺/K⁺-ATPase 患者は頭痛を訴える aaaa aaaaa aaaaaa",
]


def trained(
    size: int = 400,
    special: Sequence[str] = (EOT_TEXT,),
    corpus: Iterable[str] = CORPUS * 3,
) -> tokenizers.Tokenizer:
    """Train a byte-level BPE as `tokenizers` does it: special tokens first, bytes after them."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(corpus, trainer)
    return made


def saved(folder: Path, made: tokenizers.Tokenizer, **config: Any) -> Path:
    """Save a vocabulary as a tokenizer.json, and the model's configuration beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    write_json(folder / "config.json", {"vocab_size": made.get_vocab_size(), **config})
    return folder


def with_prefix_space(folder: Path, size: int = 300) -> Tokenizer:
    """Load a vocabulary whose file puts a space before texts, the default of `tokenizers`."""
    made = trained(size)
    made.pre_tokenizer = pre_tokenizers.ByteLevel()
    return Tokenizer.load(saved(folder, made))


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), "utf-8")
