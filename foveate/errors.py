"""Errors that a user sees as one line, each with its exit code (floor 0, no torch)."""


class FoveateError(Exception):
    """Base of every expected failure. The text is one line: what was given, what was expected, what to do."""

    exit_code = 1


class ConfigError(FoveateError, ValueError):
    """A record, a key, a value or a command line that does not fit. Exit code 2."""

    exit_code = 2


class WeightsError(FoveateError):
    """A weights or model file that is damaged, hostile or of another network. Exit code 1.

    Its text may repeat names from inside that file: it holds nothing that moves a terminal (printable).
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class WriteError(FoveateError):
    """A file or folder that can not be written: no space, no permission, no locks. Exit code 1."""


class InUseError(FoveateError):
    """A folder that another process works in. Exit code 1."""


class CheckpointError(FoveateError):
    """No checkpoint of a run can be used. Exit code 1."""


class DataError(FoveateError):
    """Pictures, folders or lists that can not be used. Exit code 3."""

    exit_code = 3


class BudgetError(FoveateError):
    """No candidate fits the budget. Exit code 4."""

    exit_code = 4


class Interrupted(FoveateError):
    """Stopped by a signal with everything saved: 75 after SIGTERM (resumable), 130 after Ctrl-C."""

    def __init__(self, message: str, exit_code: int = 75) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Terminated(BaseException):
    """SIGTERM, where it is obeyed at once: what KeyboardInterrupt is for Ctrl-C. Exit code 143."""


def printable(text: str, keep: str = "") -> str:
    """The text with nothing in it that moves a terminal or hides a letter; escaped it stands as \\n, \\x1b, \\u202e.

    Escaped are controls, escape sequences, line ends, marks of direction, letters of no width, odd spaces and bytes of
    names that are not UTF-8 (the code points U+DC80 to U+DCFF, shown as \\x80 to \\xff). keep: characters that stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(c: str) -> str:
    return f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c.encode("unicode_escape").decode()
