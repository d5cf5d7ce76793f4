"""Exceptions for a user's mistakes; the message is the whole explanation.

    ClingptError            one line: what is wrong, what was found, what to do
    ├── ConfigError         a flag or a preset (exit status 2)
    ├── DataError           a source, a record or a prepared folder (exit status 1)
    ├── CheckpointError     weights, tokenizer files or training state (exit status 1)
    ├── TrainingError       a run that cannot continue (exit status 1)
    ├── ServingError        a server that cannot continue (exit status 1)
    ├── BusyError           a folder or file that another process is writing (exit status 1)
    └── BenchError          a benchmark contender that failed (exit status 1)

Any other exception that leaves a command is a bug and keeps its traceback.
"""

from pickle import UnpicklingError  # the exception only


class ClingptError(ValueError):
    """A user's mistake or a broken file; printed as one line, without a traceback."""

    exit_status = 1


class ConfigError(ClingptError):
    """A flag or a preset that cannot be used."""

    exit_status = 2


class DataError(ClingptError):
    """A source, a record or a prepared folder that cannot be used."""


class CheckpointError(ClingptError):
    """Weights, tokenizer files or training state that cannot be used."""


class TrainingError(ClingptError):
    """A run that cannot continue; its checkpoints are intact."""


class BenchError(ClingptError):
    """A benchmark contender that failed or died before it could be timed."""


class ServingError(ClingptError):
    """A server that cannot continue; every open request has received an error."""


class BusyError(ClingptError):
    """A folder or file that another process is writing; nothing in it was changed."""


def hub_reason(error: BaseException) -> str:
    """Say in a few words why the Hugging Face Hub did not serve something.

    huggingface_hub wraps the reason in advice about its cache; the reason is among the causes.
    """
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__name__ == "OfflineModeIsEnabled":
            return "HF_HUB_OFFLINE is set"
        if isinstance(cause, TimeoutError):
            return "the Hub did not answer in time"
        if isinstance(cause, OSError) and cause.strerror:
            return f"the Hub cannot be reached: {cause.strerror}"
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split()) or type(error).__name__


def why_not_read(error: Exception) -> str:
    """Say in one line why torch.load did not read a file.

    Its own words about a pickle that contains more than tensors advise to execute it.
    """
    if isinstance(error, UnpicklingError):
        return "it is damaged or contains more than tensors, which can be code and was not executed"
    return " ".join(f"{type(error).__name__}: {error}".split())
