"""The command line: ``hypir restore | degrade | eval | demo | doctor | engines``."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 a picture failed, 2 wrong usage, 130 Ctrl-C.

    ``--debug`` anywhere shows the traceback of an error.
    """
    from ..debug import logged
    from ..environment import read_environment
    from ..errors import Cancelled, ConfigError, HypirError, UnknownNameError

    _show_what_can_be_shown()
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        try:
            from .app import app, stopped, wrong_usage
        except ModuleNotFoundError as err:
            if err.name not in {"typer", "rich"}:
                raise
            _say(f"the command line needs {err.name!r}; run: pip install 'onestep-restore[cli]'")
            return 2
        try:
            with logged(read_environment()):
                return app(args=words, prog_name="hypir", standalone_mode=False) or 0
        except wrong_usage() as err:
            _say(getattr(err, "format_message", err.__str__)())
            return 2
        except (KeyboardInterrupt, stopped):
            _say("stopped")
            return 130
    except Cancelled as err:
        if debug:
            raise
        _say(str(err))
        return 130
    except HypirError as err:
        if debug:
            raise
        _say(str(err))
        return 2 if isinstance(err, (ConfigError, UnknownNameError)) else 1


def _say(message: str) -> None:
    for line in message.splitlines():
        print(f"hypir: {line}", file=sys.stderr)  # noqa: T201  # the one place where an error reaches the user


def _show_what_can_be_shown() -> None:
    """Let a console that cannot show a letter show its number, instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
