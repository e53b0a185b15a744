"""Errors in a person's input. The command line prints them as one line, without a traceback."""

import errno
import sys
from collections.abc import Callable, Sequence


class InputError(ValueError):
    """Bad input. The message is one line: what was given, what is allowed, what to type."""


class SilentLayer(InputError):
    """A layer that no calibration image activates, so that there is no scale to normalize it by."""


def explain(error: BaseException) -> str | None:
    """The message of the InputError (or Lightning's MisconfigurationException) that caused an error.

    None if there is none among its causes: the error is a bug, and its traceback should be shown.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError) or type(cause).__name__ == "MisconfigurationException":
            return str(cause)
        cause = cause.__cause__
    return None


def explain_failure(error: BaseException) -> str | None:
    """`explain`, or what the file system refused: the file and why, or that the disk is full. None for a bug."""
    line = explain(error)
    if line is None and isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if line is None and isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error.strerror
    return line


def print_lines(make: Callable[[], Sequence[str]]) -> int:
    """Print the lines that `make` returns, or its mistake as one line on stderr. Returns the exit status, 0 or 1."""
    try:
        print("\n".join(make()), flush=True)
    except Exception as error:
        answer = explain(error)
        if answer is None:
            raise
        print(f"respike: {answer}", file=sys.stderr)
        return 1
    return 0
