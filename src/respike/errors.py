"""The one kind of error a person can mend: shown as a single line, without a traceback."""


class InputError(ValueError):
    """Bad input. The message is one line: what was given, what is allowed, what to type."""


class SilentLayer(InputError):
    """A layer that no calibration image activates: nothing to normalize by."""
