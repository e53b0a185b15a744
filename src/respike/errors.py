"""The one kind of error a person can mend: shown as a single line, without a traceback."""


class InputError(ValueError):
    """Bad input. The message is one line: what was given, what is allowed, what to type."""


class SilentLayer(InputError):
    """A layer that no calibration image activates: nothing to normalize by."""


def explain(error: BaseException) -> str | None:
    """The line of the InputError (or Lightning's own) behind an error; None for a bug, which deserves its traceback."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, InputError) or type(seen).__name__ == "MisconfigurationException":
            return str(seen)
        seen = seen.__cause__
    return None
