"""Errors that a user can fix. Any other exception is a bug in Topeng.

A message names the value, the rule and the remedy. The command line prints it in one line, without a traceback, and
exits with status 1.
"""


def in_one_line(error: Exception, most: int = 160) -> str:
    """The type and text of a library's error, for use in a message of ours."""
    return " ".join(f"{type(error).__name__} {error}".split())[:most]


class TopengError(ValueError):
    """Any error that a user can fix."""


class RecipeError(TopengError):
    """A recipe, or an override on the command line, that breaks a rule."""


class CorpusError(TopengError):
    """Rows that cannot be read, or counts that cannot be met."""


class TextError(TopengError):
    """A text or a conversation that cannot be made into tokens."""


class ModelError(TopengError):
    """A checkpoint or tokenizer that cannot be loaded, or is not what it should be."""


class AdapterError(TopengError):
    """An adaptation method or target that does not fit the model."""


class GenerationError(TopengError):
    """Decoding settings that contradict each other or the prompt."""


class ExportError(TopengError):
    """A model that cannot be written in a format, or published."""


class RunError(TopengError):
    """A run folder that cannot be used as asked."""


class HarnessError(TopengError):
    """Something that lm-evaluation-harness cannot do as asked."""


class DivergenceError(TopengError):
    """A training whose loss is no longer finite."""


class Stopped(BaseException):  # like KeyboardInterrupt, so that `except Exception` does not catch it
    """A signal asked the process to stop: one other than Ctrl-C, or any during a training."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal
