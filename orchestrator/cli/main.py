"""The entry point: exit codes, and the last line of defence before the user's screen.

Imports nothing that is not needed to find out which command was asked for.
"""

from __future__ import annotations

import os
import sys

from orchestrator.cli.argv import find_command, note_words, will_converge
from orchestrator.code_cache import refresh_code_cache, use_code_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from orchestrator.errors import StackError

EXIT_FAILURE = 1
EXIT_FILE_MISSING = 14
EXIT_MODEL = 15
EXIT_USAGE = 16
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_TIDYING = frozenset(("build", "image", "pull", "push"))
"""Commands that have something half done to remove when they are ended."""

_RECALLED = frozenset(("build", "config", "image"))
"""Commands that may find out, before anything is imported, that they would write what they wrote the last time."""


_YOUNG = 50_000
"""New objects until the collector looks for garbage: imports make hardly any, and looking is a tenth of their time."""


def start() -> NoReturn:
    """Be the program ``stack``: run the command line of this process, and end it."""
    import gc

    usual = gc.get_threshold()
    gc.set_threshold(_YOUNG, *usual[1:])
    _look_at_streams()
    status = main()
    refresh_code_cache()
    _leave(status)


def _look_at_streams() -> None:
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        from orchestrator.cli.streams import open_closed_streams

        open_closed_streams()
    elif os.fstat(2).st_mode & 0o170000 == 0o100000:  # a file, which may be on a full disk
        from orchestrator.cli.streams import forgive_errors

        forgive_errors()


def _leave(status: int) -> NoReturn:
    """End at once where nobody is left to say goodbye to: taking the interpreter down takes a tenth of a short command.

    Threads that work, and what is registered to run at the end, get their ordinary end.
    """
    import atexit

    threads = sys.modules.get("threading")
    if atexit._ncallbacks() or (threads is not None and threads.active_count() > 1):
        raise SystemExit(status)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            status = status or EXIT_FAILURE
    os._exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. No exception gets past this function, except in a forked child."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    prepared: Any = None
    try:
        note_words(arguments)
        if will_converge(arguments):
            supervised = _is_anything_supervised()
            if supervised and find_command(arguments) == "up" and _has_nothing_to_do(arguments):
                return 0
            use_code_cache()
            prepared = _prepare_supervisor(arguments, supervised)
        elif find_command(arguments) in _RECALLED and _answer_from_memory(arguments):
            return 0
        elif find_command(arguments) in _TIDYING:
            _end_as_interrupted()
        from orchestrator.cli.quick import run_quickly

        quickly = None if "_STACK_COMPLETE" in os.environ else run_quickly(arguments, prepared)
        if quickly is None:
            from orchestrator.cli.app import run

            quickly = run(arguments, prepared)
        status = quickly
        sys.stdout.flush()
    except BrokenPipeError:
        _mute(sys.stdout)
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        return _report_interrupt()
    except Exception as error:
        status = _report(error, arguments)
    finally:
        if prepared is not None:
            # What no goal was given to is of no use; what has one goes on alone.
            prepared.discard() if prepared.usable else prepared.close()
    return status


def _has_nothing_to_do(arguments: Sequence[str]) -> bool:
    from orchestrator.cli.again import confirm_up

    return confirm_up(arguments)


def _is_anything_supervised() -> bool:
    """Whether there may be a supervisor of any project; where there is none, one is forked before anything is asked."""
    from orchestrator.engines.native.places import find_places

    try:
        return bool(os.listdir(f"{find_places()[1]}/projects"))
    except OSError:
        return False


def _prepare_supervisor(arguments: Sequence[str], supervised: bool) -> Any:
    """Fork the future supervisor, unless the project has one. It does its imports while the command does its own."""
    if supervised:
        from orchestrator.cli.quick import names_supervised

        if names_supervised(arguments):
            return None
    from orchestrator.supervision.launch import prepare

    return prepare(os.environ.get("STACK_ENGINE") or "native")


def _answer_from_memory(arguments: Sequence[str]) -> bool:
    from orchestrator.cli.recalled import recall_output

    known = recall_output(arguments)
    if known is None:
        return False
    for stream, text in zip((sys.stderr, sys.stdout), known, strict=True):
        stream.write(text)
        stream.flush()
    return True


def _end_as_interrupted() -> None:
    """Have SIGTERM, which timeout(1) and build servers send, end the command the way Ctrl-C does."""
    import signal

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        # Not the main thread: somebody else's process, and their signals.
        return


def exit_code_of(error: StackError) -> int:
    """The exit code that belongs to an error. The only place where codes are given out."""
    from orchestrator.errors import CannotRun, ContainerFailed, FileMissing, Interrupted, ModelError, UsageError

    if isinstance(error, ContainerFailed):
        return error.exit_code
    for kind, code in (
        (UsageError, EXIT_USAGE),
        (CannotRun, EXIT_FAILURE),
        (ModelError, EXIT_MODEL),
        (FileMissing, EXIT_FILE_MISSING),
        (Interrupted, EXIT_INTERRUPTED),
    ):
        if isinstance(error, kind):
            return code
    return EXIT_FAILURE


def _report(error: Exception, arguments: Sequence[str]) -> int:
    from orchestrator.errors import StackError

    try:
        if os.environ.get("STACK_DEBUG") == "1":
            import traceback

            traceback.print_exception(error)
        if isinstance(error, StackError):
            from orchestrator.cli.diagnostics import report_error

            report_error(error)
            return exit_code_of(error)
        if isinstance(error, OSError) and (known := _explain_surroundings(error)) is not None:
            from orchestrator.cli.diagnostics import report_error

            _mute(sys.stdout)
            report_error(known)
            return exit_code_of(known)
        from orchestrator.cli.diagnostics import report_internal_error

        report_internal_error(error, arguments)
    except BrokenPipeError:
        _mute(sys.stderr)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_FAILURE


def _explain_surroundings(error: OSError) -> StackError | None:
    """What the shell has given us to work with and is not there: the folder that we are in, space for what we write."""
    from orchestrator.cli.streams import find_full_output
    from orchestrator.errors import FileMissing, Unavailable

    if isinstance(error, FileNotFoundError):
        try:
            os.getcwd()
        except FileNotFoundError:
            return FileMissing("the current folder does not exist any more", hint="cd into one that does")
    from orchestrator.engines.native.unusable import explain_refusal

    refused = explain_refusal(error)
    if refused is not None:
        return refused
    reason = find_full_output(error)
    hint = "free some space where the output goes"
    return Unavailable(f"cannot write to standard output: {reason}", hint=hint) if reason else None


def _report_interrupt() -> int:
    try:
        sys.stdout.flush()
        if sys.stderr.isatty():
            print(file=sys.stderr)
    except (BrokenPipeError, ValueError):
        _mute(sys.stdout)
    return EXIT_INTERRUPTED


def _mute(stream: Any) -> None:
    """Point a stream whose reader has gone at nothing, so that the interpreter's last flush stays silent."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, stream.fileno())
    except (OSError, ValueError):
        return
    finally:
        os.close(nothing)


if __name__ == "__main__":
    start()
