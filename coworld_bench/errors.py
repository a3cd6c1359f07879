"""What a user can get wrong, each with its exit code.

UserError             one sentence: what was given, what is allowed, what to do
├── UsageError        2   unknown name, bad option, bad configuration
├── DatasetError      3   a dataset is missing or damaged
├── NotUsable         4   the machine lacks something: OpenGL, CUDA, a package
│   └── MissingPackage
├── PartMissing       1   a method has not written what its scheme calls
└── Busy              5   another process is at it (in data.lock)

6 out of memory, 75 stopped at a checkpoint: give the same command again, 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from traceback import walk_tb

FEW = 4  # names that fit into a sentence
OWN_METHOD = "coworld_own_method_"  # what the modules of users' own method files are called, before a name
OK, SOME_FAILED, USAGE, DATASET, NOT_USABLE, LOCKED, OUT_OF_MEMORY, STOPPED, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 75, 130


class UserError(Exception):
    """A mistake that a sentence repairs; shown without a traceback."""

    exit_code = SOME_FAILED


class UsageError(UserError):
    exit_code = USAGE


class DatasetError(UserError):
    exit_code = DATASET


class NotUsable(UserError):
    exit_code = NOT_USABLE


class MissingPackage(NotUsable):
    def __init__(self, package: str, command: str) -> None:
        super().__init__(f"{package} is not installed; install it with: {command}")


class PartMissing(UserError):
    """A method lacks a part that the scheme it chose calls."""

    def __init__(self, method: object, part: str) -> None:
        super().__init__(f"{type(method).__name__} has no {part}; `coworld-bench check-method` tells what a method must do")


def about_file(error: OSError) -> str:
    """What the system says of a file, in words."""
    reason = (error.strerror or str(error)).lower()
    return f"{error.filename}: {reason}" if error.filename else reason


def own_line(error: BaseException) -> str:
    """Where a user's own method was when it came to this: `mine.py, line 12`; empty where none took part."""
    own = [
        f"{Path(frame.f_code.co_filename).name}, line {line}"
        for frame, line in walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").startswith(OWN_METHOD)
    ]
    return own[-1] if own else ""


def named(error: BaseException) -> str:
    """The kind of an exception and what it says, in one line."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def about_fault(error: BaseException) -> str:
    """An exception that no user was meant to see: whose fault it is, and where to look."""
    place = own_line(error)
    if place:
        return f"{place}: {named(error)} (--debug shows more; `coworld-bench check-method` tells what a method must do)"
    return f"{named(error)} (a fault of ours; --debug shows where)"


def unknown(kind: str, name: str, known: Iterable[str], look: str = "") -> UsageError:
    """The error for a name that does not exist, with the nearest ones that do, and all where they are few."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    hints = [f"did you mean {' or '.join(close)}?"] if close else []
    if not close or len(names) <= FEW:
        hints.append(f"known: {', '.join(names) or 'none'}")
    hint = " ".join(hints)
    return UsageError(f"no {kind} {name!r}; {hint}" + (f" (`{look}` lists them all)" if look else ""))
