"""The process of a command: it keeps freed memory, and SIGTERM and Ctrl-C give one line and the status 143 or 130."""

import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from respike.system.memory import keep_freed_memory


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived. As a KeyboardInterrupt it passes through everything that lets Ctrl-C pass, Lightning included."""


def run_command(main: Callable[[], int | None], kept: str = "") -> NoReturn:
    """Exit with the status that `main()` returns; 143 after SIGTERM and 130 after Ctrl-C, with one line on stderr.

    kept: what the line says beside "interrupted" or "terminated".
    """
    received: list[int] = []

    def terminate(number: int, frame: Any) -> None:
        received.append(number)
        raise Terminated

    keep_freed_memory()
    signal.signal(signal.SIGTERM, terminate)
    try:
        status = main()
    except KeyboardInterrupt:  # Lightning raises one of its own in place of a `Terminated`
        word, status = ("terminated", 143) if received else ("interrupted", 130)
        print(f"\nrespike: {word}{kept and f'; {kept}'}", file=sys.stderr, flush=True)
    sys.exit(status)
