"""What a user can get wrong, each with its exit code.

UserError             one sentence: what was given, what is allowed, what to do
├── UsageError        2   unknown name, bad option, bad configuration
├── DatasetError      3   a dataset is missing or damaged
└── NotUsable         4   the machine lacks something: OpenGL, CUDA, a package
    └── MissingPackage
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

FEW = 4  # names that fit into a sentence
OK, SOME_FAILED, USAGE, DATASET, NOT_USABLE, STOPPED, INTERRUPTED = 0, 1, 2, 3, 4, 75, 130


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


def about_file(error: OSError) -> str:
    """What the system says of a file, in words."""
    reason = (error.strerror or str(error)).lower()
    return f"{error.filename}: {reason}" if error.filename else reason


def unknown(kind: str, name: str, known: Iterable[str], look: str = "") -> UsageError:
    """The error for a name that does not exist, with the nearest ones that do, and all where they are few."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    hints = [f"did you mean {' or '.join(close)}?"] if close else []
    if not close or len(names) <= FEW:
        hints.append(f"known: {', '.join(names) or 'none'}")
    hint = " ".join(hints)
    return UsageError(f"no {kind} {name!r}; {hint}" + (f" (`{look}` lists them all)" if look else ""))
