"""Tiny random models, documents and batches for tests of numerics."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from clingpt.data.packing import TASK, Rows, build_rows
from clingpt.evaluation.scorer import split_of_examples
from clingpt.text.tasks import TASKS, Example
from clingpt.text.tokenizer import EOT
from model import GPT, Batch, GPTConfig

Document = tuple[list[int], int]  # token ids, and how many of them are prompt

SlowBatch = Callable[..., Batch]

VOCAB_SIZE = 96  # padded to 128 inside

TINY = {"vocab_size": VOCAB_SIZE, "block_size": 24, "n_layer": 2, "n_head": 2, "n_embd": 16}


def make_tiny_model(seed: int = 0, **shape: Any) -> GPT:
    """Build a two-layer GPT with weights large enough for each to matter."""
    torch.manual_seed(seed)
    model = GPT(GPTConfig(**TINY | shape))
    for name, parameter in model.named_parameters():
        norm = "ln_" in name and name.endswith("weight")
        torch.nn.init.normal_(parameter, mean=float(norm), std=0.2)
    model.wte.weight.data[model.config.vocab_size :] = 0
    return model


def make_documents() -> list[Document]:
    """Return twelve documents of 2 to 24 tokens, each with a prompt and a target."""
    generator = torch.Generator().manual_seed(7)
    lengths, prompts = (
        (24, 9, 2, 13, 5, 11, 3, 24, 8, 17, 2, 6),
        (5, 8, 1, 4, 2, 1, 2, 23, 3, 9, 1, 1),
    )
    return [
        (torch.randint(VOCAB_SIZE, (length,), generator=generator).tolist(), prompt)
        for length, prompt in zip(lengths, prompts, strict=True)
    ]


def rows_of_documents(documents: list[Document], block_size: int, *, pack: bool = False) -> Rows:
    """Return documents as the rows of a prepared split."""
    examples = [
        Example(prompt_ids=ids[:n], target_ids=ids[n:], trimmed_tokens=0) for ids, n in documents
    ]
    return build_rows(split_of_examples(examples, EOT), block_size, pack=pack, seed=0)


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A document of a task, and how many of its targets are its label's."""

    document: Document
    task: str
    n_label: int


LABEL_IDS = ((5,), (6, 7))  # those of labelled documents; the second has two tokens


def make_labelled() -> list[Labelled]:
    """Return twelve documents: some with a label, some that only begin like one."""
    generator = torch.Generator().manual_seed(8)

    def words(n: int) -> list[int]:
        return torch.randint(10, VOCAB_SIZE, (n,), generator=generator).tolist()

    labelled = []
    for number in range(12):
        label = (LABEL_IDS[0], LABEL_IDS[1], (6,))[number % 3]  # the last is only half a label
        task = "summarize" if number % 4 == 3 else "answer"
        ids = [*words(1 + number % 5), *label, *words(number % 7), EOT]
        n_label = len(label) if task == "answer" and label in LABEL_IDS else 0
        document = ids, 1 + number % 5
        labelled.append(Labelled(document=document, task=task, n_label=n_label))
    return labelled


def rows_of_labelled(
    labelled: list[Labelled], block_size: int, *, label_weight: float, pack: bool = False
) -> Rows:
    """Return labelled documents as the rows of a prepared split."""
    split = rows_of_documents([each.document for each in labelled], block_size).split
    split = replace(split, index=split.index.copy())
    split.index[:, TASK] = [TASKS.index(each.task) for each in labelled]
    return build_rows(
        split, block_size, pack=pack, seed=0, label_weight=label_weight, label_ids=LABEL_IDS
    )


def packed(documents: list[Document]) -> list[list[Document]]:
    """Arrange the documents in rows of 24 tokens, some full and some with padding."""
    by_row = ((0,), (1, 2, 3), (4, 5), (6, 10, 9), (7,), (8, 11))
    return [[documents[i] for i in row] for row in by_row]


def losses_and_gradient(model: GPT, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each target's loss, and the gradient of their sum, both flattened."""
    model.zero_grad()
    batch = Batch(*(t.to(model.wte.weight.device) for t in batch[:5]))
    losses_M, loss = model.token_losses(batch).flatten().cpu(), model(batch)
    torch.testing.assert_close(loss.detach().cpu(), losses_M.sum())
    loss.backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    assert len(gradients) == len(list(model.parameters()))
    return losses_M, torch.cat(gradients).cpu()
