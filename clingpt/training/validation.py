"""What a run finds out about itself while it trains, by really answering held-out records.

Greedy, and by a copy of the model without dropout: no random number is drawn. Records are shared
out over the ranks, and what they gave is scored in one order, whatever the number of ranks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import nn

from clingpt.base import console
from clingpt.decoding.decoders import make_decoder
from clingpt.decoding.engine import OnReply, Reply, generate
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation.metrics import classification, rouge
from clingpt.evaluation.scorer import Output, Scorer, score_labels, write_outputs
from clingpt.nn.runtime import Runtime
from clingpt.text.records import Record
from clingpt.text.tasks import explained
from clingpt.text.tokenizer import EOT, Tokenizer
from clingpt.training.batches import Feed
from clingpt.training.state import plain_copy
from clingpt.training.step import mean_loss
from model import GPT

Result = TypeVar("Result")
RECORDS_AT_ONCE = 16


class Stopped(Exception):
    """The run was asked to end while texts were being written; raised on every rank."""


@dataclass(frozen=True)
class Examiner:
    """The records to answer at each validation, and the tasks that the data was prepared for."""

    records: Sequence[Record]
    tasks: Sequence[str]
    max_new_tokens: int
    rt: Runtime
    stop: Callable[[], bool]  # this rank's own wish to stop, asked at every token

    def figures(self, scorer: Scorer) -> dict[str, float]:
        """val_accuracy and val_macro_f1 (0 to 1), val_rougeL (0 to 100), where the tasks have them.

        ROUGE-L is over the outputs of all tasks together, of an answer over its explanation.
        """
        figures = {}
        mine = self.rt.share(list(self.records))
        if "answer" in self.tasks:
            known = [record for record in mine if record.decision]
            found = [
                (score.id, score.gold or "", score.label) for score in score_labels(scorer, known)
            ]
            if labels := self._of_all_ranks(found):
                scores = classification([gold for _, gold, _ in labels], [x for _, _, x in labels])
                figures = {"val_accuracy": scores.accuracy, "val_macro_f1": scores.macro_f1}
        outputs = self._unless_stopped(lambda ask: self._outputs(scorer, mine, ask))
        texts = self._of_all_ranks([_prose(output) for output in outputs])
        if pairs := [(text, reference) for *_, text, reference in texts if reference]:
            f1 = rouge([text for text, _ in pairs], [reference for _, reference in pairs])
            figures["val_rougeL"] = f1.rougeL
        return figures

    def sample(self, scorer: Scorer) -> list[str]:
        """Lines that show what the model makes of the first record; of nothing, for text alone."""
        if not self.rt.is_main:
            return self._unless_stopped(lambda _: [])
        if list(self.tasks) == ["text"]:
            return self._unless_stopped(lambda ask: [self._free_text(scorer, ask)])
        outputs = self._unless_stopped(lambda ask: self._outputs(scorer, self.records[:1], ask))
        return [
            line
            for output in outputs
            for line in (
                f"{output.task} {output.record_id}",
                f"  output:    {console.one_line(output.text)}",
                f"  reference: {console.one_line(output.reference)}",
            )
        ]

    def _free_text(self, scorer: Scorer, ask: OnReply) -> str:
        [reply] = generate(
            scorer.decoder,
            scorer.tokenizer,
            [[EOT]],
            Sampling(max_new_tokens=min(self.max_new_tokens, scorer.context - 1)),
            context=scorer.context,
            on_reply=ask,
        )
        return f"  output:    {reply.text}"

    def _outputs(self, scorer: Scorer, records: Sequence[Record], ask: OnReply) -> list[Output]:
        sampling = Sampling(max_new_tokens=min(self.max_new_tokens, scorer.context // 2))
        tasks = [task for task in self.tasks if task != "text"]
        n_texts = len(tasks) * len(records)
        with console.progress_bar(label="answering", total=n_texts, unit=" texts") as bar:

            def each(number: int, reply: Reply) -> None:
                bar.update(reply.finish_reason is not None)
                ask(number, reply)

            return [
                output
                for task in tasks
                for output in write_outputs(scorer, task, records, sampling, on_reply=each)
            ]

    def _unless_stopped(self, work: Callable[[OnReply], list[Result]]) -> list[Result]:
        """The result of work that asks at every token; Stopped on all ranks where one is."""
        result = None

        def ask(_number: int, _reply: Reply) -> None:
            if self.stop():
                raise Stopped

        try:
            result = work(ask)
        except Stopped:
            pass
        if self.rt.agreed(result is None) or result is None:
            raise Stopped
        return result

    def _of_all_ranks(self, mine: list[Result]) -> list[Result]:
        """What the ranks have, in an order that does not depend on their number."""
        return sorted((x for theirs in self.rt.gathered(mine) for x in theirs), key=str)


def _prose(output: Output) -> tuple[str, str, str, str]:
    """Record, task, text and reference; of an answer the explanation alone."""
    strip = explained if output.task == "answer" else str
    return output.record_id, output.task, strip(output.text), strip(output.reference)


@dataclass(frozen=True, kw_only=True)
class Validator:
    """Measures a run on what was held out."""

    feed: Feed | None  # of the validation rows; None where there are none
    examiner: Examiner
    tokenizer: Tokenizer
    n_records: int  # that the examiner answers; 0 where the loss says enough
    sample: bool  # whether to show what the model makes of one

    def in_forwards_like(self, feed: Feed) -> "Validator":
        """The same, in forwards like those of another feed."""
        return replace(self, feed=self.feed and replace(feed, data=self.feed.data))

    def figures(
        self, model: GPT, replica: nn.Module, *, told_to_stop: Callable[[], bool]
    ) -> dict[str, float] | None:
        """val_loss (nats, exact, the whole split) and the examiner's; None where told to stop."""
        if self.feed is None:
            return {}
        loss = mean_loss(replica, self.feed, stop=told_to_stop)
        if loss is None:
            return None
        figures = {"val_loss": loss}
        if not (self.n_records or self.sample):
            return figures
        rt = self.examiner.rt
        copy = plain_copy(model, rt)
        # To capture graphs takes longer than a few texts.
        decoder = copy if rt.device.type == "cuda" else make_decoder(copy, rt)
        scorer = Scorer(copy, decoder, self.tokenizer, rt, RECORDS_AT_ONCE)
        try:
            if self.n_records:
                figures |= self.examiner.figures(scorer)
            for line in self.examiner.sample(scorer) if self.sample else ():
                console.note(line)
        except Stopped:
            return None
        return figures
