"""What a run measures on held-out records while it trains: the loss, and real answers.

Answers are decoded greedily by a copy of the model without dropout, so that no random number is
drawn and training continues as if nothing had been measured. Records are divided among the ranks,
and their answers are scored in an order that does not depend on the number of ranks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import nn

from clingpt.base import console
from clingpt.base.errors import ConfigError
from clingpt.data.readers.text_file import shown_name
from clingpt.decoding.decoders import make_decoder
from clingpt.decoding.engine import Reply, generate
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation.metrics import classification, rouge
from clingpt.evaluation.scorer import Output, Scorer, score_labels, write_outputs
from clingpt.nn.checkpoint import score
from clingpt.nn.runtime import Runtime
from clingpt.text.documents import DocumentForm, parse_document
from clingpt.text.records import Record
from clingpt.text.tasks import explained
from clingpt.text.tokenizer import Tokenizer
from clingpt.training.batches import Feed
from clingpt.training.state import plain_copy
from clingpt.training.step import mean_loss
from model import GPT

Item = TypeVar("Item")
RECORDS_AT_ONCE = 16  # rows of the KV cache


class Stopped(Exception):
    """A signal arrived while texts were being generated; raised on every rank."""


@dataclass(frozen=True, kw_only=True)
class Validator:
    """Measures a model on the validation split."""

    feed: Feed | None  # rows of the validation split; None if it is empty
    records: Sequence[Record]  # to answer, or only the first one to show
    tasks: Sequence[str]  # that the data was prepared for
    form: DocumentForm = DocumentForm()  # of the data's documents
    tokenizer: Tokenizer
    rt: Runtime
    max_new_tokens: int
    answer: bool  # answer the records and score the answers
    sample: bool  # print what the model writes for the first record
    mask: bool  # the data was allowed to contain identifiers: mask them in what is printed
    lora: bool
    stop: Callable[[], bool]  # whether this process has received a signal

    def measure(self, model: GPT, replica: nn.Module) -> dict[str, float] | None:
        """Return val_loss and, if records are answered, their scores; None if stopped early.

        val_loss is in nats per target token over the whole split. See `_score_answers` for the
        rest. Every rank must call this and gets the same figures.
        """
        if self.feed is None:
            return {}
        loss = mean_loss(replica, self.feed, stop=lambda: self.rt.agreed(self.stop()))
        if loss is None:
            return None
        figures = {"val_loss": loss}
        if not (self.answer or self.sample):
            return figures
        copy = plain_copy(model, lora=self.lora)
        # On CUDA the plain model decodes: capturing graphs takes longer than these few texts.
        decoder = copy if self.rt.device.type == "cuda" else make_decoder(copy, self.rt)
        scorer = Scorer(copy, decoder, self.tokenizer, self.rt, RECORDS_AT_ONCE, self.form)
        try:
            if self.answer:
                figures |= self._score_answers(scorer)
            if self.sample:
                self._show_sample(scorer)
        except Stopped:
            return None
        return figures

    def _score_answers(self, scorer: Scorer) -> dict[str, float]:
        """Return val_accuracy and val_macro_f1 (0 to 1), val_rougeL (0 to 100), if the tasks allow.

        ROUGE-L covers the outputs of all tasks; of an answer only its explanation counts. Records
        without a label or a reference are left out, so `scored_labels` and `scored_texts` count
        what the figures were measured on.
        """
        figures: dict[str, float] = {}
        mine = self.rt.share(list(self.records))
        if "answer" in self.tasks:
            known = [record for record in mine if record.decision]
            found = [
                (score.id, score.gold or "", score.label) for score in score_labels(scorer, known)
            ]
            if labels := self._of_all_ranks(found):
                scores = classification([gold for _, gold, _ in labels], [x for _, _, x in labels])
                figures = {"val_accuracy": scores.accuracy, "val_macro_f1": scores.macro_f1}
                figures["scored_labels"] = len(labels)
        texts = self._of_all_ranks([prose(output) for output in self._write(scorer, mine)])
        if pairs := [(text, reference) for *_, text, reference in texts if reference]:
            f1 = rouge([text for text, _ in pairs], [reference for _, reference in pairs])
            figures |= {"val_rougeL": f1.rougeL, "scored_texts": len(pairs)}
        return figures

    def _show_sample(self, scorer: Scorer) -> None:
        """Print the outputs for the first record, or free text if the data has no other task."""
        if list(self.tasks) == ["text"]:
            sampling = Sampling(max_new_tokens=min(self.max_new_tokens, scorer.context - 1))
            with self._stopping_together():
                if self.rt.is_main:
                    [reply] = generate(
                        scorer.decoder,
                        scorer.tokenizer,
                        [[scorer.tokenizer.eot]],
                        sampling,
                        context=scorer.context,
                        on_reply=self._check_signal,
                    )
                    console.note(f"  output:    {self._printable(reply.text)}")
            return
        shown = [first_section(record, self.form) for record in self.records[:1]]
        for output in self._write(scorer, shown if self.rt.is_main else []):
            name = shown_name(output.record_id) if self.mask else output.record_id
            console.note(f"{output.task} {name}")
            console.note(f"  output:    {self._printable(output.text)}")
            console.note(f"  reference: {self._printable(output.reference)}")

    def _printable(self, text: str) -> str:
        """Put a text on one line, for a log that others may read."""
        if self.mask:
            from clingpt.privacy.redaction import masked_text  # loads all detectors

            text = masked_text(text, self.records[:1])
        return console.one_line(text)

    def _write(self, scorer: Scorer, records: Sequence[Record]) -> list[Output]:
        """Generate this rank's outputs by task; raise Stopped on all ranks if one got a signal."""
        sampling = Sampling(max_new_tokens=min(self.max_new_tokens, scorer.context // 2))
        tasks = [task for task in self.tasks if task != "text"]
        outputs: list[Output] = []
        total = len(tasks) * len(records)
        with (
            self._stopping_together(),
            console.progress_bar(label="answering", total=total, unit=" texts") as bar,
        ):

            def on_reply(number: int, reply: Reply) -> None:
                self._check_signal(number, reply)
                bar.update(reply.finish_reason is not None)

            for task in tasks:
                outputs += write_outputs(scorer, task, records, sampling, on_reply=on_reply)
        return outputs

    def _check_signal(self, _number: int, _reply: Reply) -> None:
        """Raise Stopped if this process received a signal; called after every token."""
        if self.stop():
            raise Stopped

    @contextmanager
    def _stopping_together(self) -> Iterator[None]:
        """Raise Stopped on every rank if the block raised it on any.

        A rank that left alone would let the others wait for it in the next collective operation.
        """
        stopped = False
        try:
            yield
        except Stopped:
            stopped = True
        if self.rt.agreed(stopped):
            raise Stopped

    def _of_all_ranks(self, mine: list[Item]) -> list[Item]:
        """Return all ranks' items, sorted: their order must not depend on the number of ranks."""
        return sorted((x for theirs in self.rt.gathered(mine) for x in theirs), key=str)


def prose(output: Output) -> tuple[str, str, str, str]:
    """Return record, task, text and reference, reducing answers to their explanation."""
    strip = explained if output.task == "answer" else str
    return output.record_id, output.task, strip(output.text), strip(output.reference)


def check_measurable(select: str, *, tasks: Sequence[str], held_out: bool) -> None:
    """Raise ConfigError if the data cannot measure the criterion for the best checkpoint."""
    reason = ""
    if select in ("accuracy", "macro_f1") and "answer" not in tasks:
        reason = "the data was not prepared for the task answer"
    elif select == "rougeL" and list(tasks) == ["text"]:
        reason = "the data was prepared only for the task text, which has no references"
    elif select != "loss" and not held_out:
        reason = "the validation split is empty"
    if reason:
        raise ConfigError(f"select={select} cannot be measured: {reason}; use --select=loss")


def lacks_improvement(rows: Iterable[Mapping[str, Any]], select: str, patience: int | None) -> bool:
    """Return whether the last `patience` validations brought no improvement; never for None.

    An equal score is not an improvement.
    """
    scores = [found for row in rows if (found := score(row, select)) is not None]
    if patience is None or not scores:
        return False
    return len(scores) - 1 - scores.index(max(scores)) >= patience


def first_section(record: Record, form: DocumentForm) -> Record:
    """Return a record that asks only for its first section, if documents are written in sections.

    A whole document takes dozens of prompts, too many for an example that is only looked at.
    """
    if not form.window or record.document is None or record.heading:
        return record
    sections = parse_document(record.document, form.headings)
    heading, text = next((pair for pair in sections if pair[1]), (None, record.document))
    return replace(record, heading=heading, document=text)
