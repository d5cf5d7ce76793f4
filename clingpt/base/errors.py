"""What can be wrong with a user's input, as exceptions whose message is the whole explanation.

    ClingptError            one line: what was wrong, what was seen, what to do
    ├── ConfigError         a flag or a preset (exit status 2)
    ├── DataError           a source, a record or a prepared folder (exit status 1)
    ├── CheckpointError     weights, tokenizer files or training state (exit status 1)
    ├── TrainingError       a run that cannot go on (exit status 1)
    ├── ServingError        a server that cannot go on (exit status 1)
    └── BenchError          a contender that cannot be timed (exit status 1)

Anything else that escapes a command is a bug and keeps its traceback.
"""


class ClingptError(ValueError):
    """A user's mistake or a broken file; the message is shown alone, without a traceback."""

    exit_status = 1


class ConfigError(ClingptError):
    """A flag or a preset that cannot be used."""

    exit_status = 2


class DataError(ClingptError):
    """A source, a record or a prepared folder that cannot be used."""


class CheckpointError(ClingptError):
    """Weights, tokenizer files or training state that cannot be used."""


class TrainingError(ClingptError):
    """A run that cannot go on as it is; what it saved is intact."""


class BenchError(ClingptError):
    """A contender that failed or died before it could be timed."""


class ServingError(ClingptError):
    """A server that cannot go on; every request that was open has been told."""
