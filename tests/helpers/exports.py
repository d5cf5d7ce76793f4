"""Export checkpoints, and compare what an engine computes with transformers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

import export as command
from clingpt.base.files import written_whole
from clingpt.text.tokenizer import Tokenizer
from model import GPT
from tests.helpers.commands import exit_status, make_calibration, make_familiarity

Inputs = tuple[Tensor, ...]

SHAPES = ((1, 0, 1), (1, 0, 2), (1, 1, 1), (2, 0, 7), (3, 6, 1), (2, 6, 4), (1, -1, 1), (4, 0, 64))
LENGTHS = (9, 4, 1, 7)  # of rows padded on the left
GARBAGE = 7.5  # in the padding of a past
CARD = {"format": 1, "step": 13, "tasks": ["answer"]}
CALIBRATION = make_calibration(familiarity=make_familiarity(limit=-0.48))


def make_checkpoint(folder: Path, model: GPT) -> Path:
    """Write a checkpoint as training leaves it, evaluated and calibrated."""
    with written_whole(folder) as scratch:
        model.save_pretrained(scratch)
        Tokenizer.load().save(scratch)
        (scratch / "clingpt.json").write_text(json.dumps(CARD))
        torch.save({"step": 13}, scratch / "trainer.pt")
    (folder / "README.md").write_text("# A model\n")
    CALIBRATION.save(folder)
    return folder


def export(*flags: object) -> int:
    """Run export.py in this process and return its exit status."""
    return exit_status(command.main, *flags)


@dataclass(frozen=True)
class Case:
    """Inputs of a step, and transformers' results for the same tokens."""

    name: str
    inputs: Inputs
    logits_BTV: Tensor
    real_BT: Tensor  # False in the padding
    present: Inputs  # empty for padded rows, whose padding differs


def layers_of(cache: Any) -> Inputs:
    return tuple(tensor for layer in cache.layers for tensor in (layer.keys, layer.values))


@torch.no_grad()
def make_cases(judge: GPT2LMHeadModel) -> list[Case]:
    """Return a case for every shape, with a past computed by transformers, and padded rows."""
    config, generator = judge.config, torch.Generator().manual_seed(3)
    empty = torch.zeros(1, config.n_head, 0, config.n_embd // config.n_head)
    cases = []
    for B, P, T in SHAPES:
        P = config.n_positions - T if P < 0 else P
        ids_BS = torch.randint(config.vocab_size, (B, P + T), generator=generator)
        past = (empty.expand(B, -1, -1, -1),) * (2 * config.n_layer)
        if P:
            past = layers_of(judge(ids_BS[:, :P], use_cache=True).past_key_values)
        mask_BS, position_BT = torch.ones_like(ids_BS), torch.arange(P, P + T).expand(B, T)
        whole = judge(ids_BS, use_cache=True)
        logits_BTV, real_BT = whole.logits[:, P:], torch.ones(B, T, dtype=torch.bool)
        inputs = (ids_BS[:, P:], mask_BS, position_BT, *past)
        present = layers_of(whole.past_key_values)
        cases.append(Case(f"({B}, {P}, {T})", inputs, logits_BTV, real_BT, present))
    return [*cases, padded_case(judge, 0), padded_case(judge, 2)]


def padded_case(judge: GPT2LMHeadModel, n_new: int) -> Case:
    """Return rows padded on the left: complete, or new tokens after a past with garbage."""
    config, longest = judge.config, max(LENGTHS)
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(config.vocab_size, (len(LENGTHS), longest + n_new), generator=generator)
    shape = (len(LENGTHS), config.n_head, longest, config.n_embd // config.n_head)
    past = tuple(torch.full(shape, GARBAGE) for _ in range(2 * config.n_layer))
    mask = torch.zeros_like(ids)
    logits = torch.zeros(*ids.shape, config.vocab_size)
    for row, n in enumerate(LENGTHS):
        start = longest - n
        mask[row, start:] = 1
        logits[row, start:] = judge(ids[row : row + 1, start:]).logits[0]
        known = layers_of(judge(ids[row : row + 1, start:longest], use_cache=True).past_key_values)
        for whole, own in zip(past, known, strict=True):
            whole[row, :, start:] = own[0]
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    if not n_new:
        empty = tuple(each[:, :, :0] for each in past)
        return Case("padded", (ids, mask, positions, *empty), logits, mask.bool(), ())
    new = (each[:, -n_new:] for each in (ids, positions, logits, mask.bool()))
    ids, positions, logits, real = new
    return Case("padded past", (ids, mask, positions, *past), logits, real, ())


def assert_same(case: Case, outputs: Sequence[Tensor]) -> None:
    """Check logits to 1e-5 of the largest, the best tokens, and keys and values."""
    ours, expected = outputs[0][case.real_BT], case.logits_BTV[case.real_BT]
    assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max(), case.name
    assert torch.equal(ours.argmax(-1), expected.argmax(-1)), case.name
    assert len(outputs) == len(case.inputs) - 3 + 1
    for mine, theirs in zip(outputs[1:], case.present or outputs[1:], strict=True):
        assert (mine - theirs).abs().max() <= 1e-5 * theirs.abs().max(), case.name
