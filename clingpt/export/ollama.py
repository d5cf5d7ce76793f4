"""Modelfiles, with which Ollama serves a GGUF file.

A task's Modelfile writes the task's prompt around what the user types, so that the model sees the
prompts that it was trained on. Ollama's defaults would sample at a temperature of 0.8 and penalise
words that the report contains; the parameters here decode greedily, as clinGPT does.
"""

from collections.abc import Sequence

from clingpt.text.records import Record
from clingpt.text.tasks import TASK_TABLE, prompt_text
from model import GPTConfig

PROMPT = "{{ .Prompt }}"  # what the user types, in Ollama's templates
PLAIN_REPLY = 160  # new tokens of a text that is continued
QUESTION = "Does the drug relieve pain?"
SECTION = ("RESULTS", "Pain fell by 31% with the drug and by 8% with placebo (P = 0.002).")


def around(task: str) -> tuple[str, str, str]:
    """Return what a task's prompt has before and after the user's text, and an example of it."""
    facts = TASK_TABLE[task]
    needs_context = facts.context != "optional"
    record = Record(id="", question=QUESTION, sections=(SECTION,) if needs_context else ())
    before = f"{facts.opening}\n" if needs_context else "Question: "
    after = f"\n{facts.cue}"
    whole = prompt_text(task, record)
    assert whole.startswith(before) and whole.endswith(after)
    return before, after, whole.removeprefix(before).removesuffix(after)


def modelfile(
    task: str | None,
    gguf: str,
    config: GPTConfig,
    ends: Sequence[str],
    notice: Sequence[str],
) -> str:
    """Write the Modelfile of a task, or of a text to continue if there is none.

    `gguf` is the name of the file beside it, `ends` are the tokens that end a text, and `notice`
    the paragraphs that `ollama show --license` prints.
    """
    before, after, typed = around(task) if task else ("", "", "Metformin is")
    example = "\n".join(f"#     {line}" for line in typed.splitlines())
    tokens = TASK_TABLE[task].longest_reply if task else PLAIN_REPLY
    # Ollama takes what is between the quotes as it is, quotes included: it knows no escapes.
    stops = "\n".join(f'PARAMETER stop "{end}"' for end in ends)
    text = "\n\n".join(notice)
    return f"""\
# {"The task " + task if task else "Text to continue"}. Type, for example:
{example}
# The model has seen single prompts, not conversations: in `ollama run`, type /clear between them.
# A prompt and its reply together have room in {config.block_size} tokens.
FROM ./{gguf}
TEMPLATE \"\"\"{before}{PROMPT}{after}\"\"\"
PARAMETER temperature 0
PARAMETER repeat_penalty 1
PARAMETER num_ctx {config.block_size}
PARAMETER num_predict {min(tokens, config.block_size)}
{stops}
LICENSE \"\"\"
{text}
\"\"\"
"""


def file_names(tasks: Sequence[str]) -> dict[str, str | None]:
    """Return the task of each Modelfile: one file, or one per task if there are several."""
    if len(tasks) < 2:
        return {"Modelfile": next(iter(tasks), None)}
    return {f"Modelfile.{task}": task for task in tasks}
