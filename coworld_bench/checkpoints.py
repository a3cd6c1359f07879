"""States of learners and agents on disk."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from coworld_bench.errors import DatasetError
from coworld_bench.files import atomic, clear_partials

KEPT = 2
DIGITS = 16  # of the SHA-256 in a file's name


class Checkpoints:
    """The newest states of one piece of work, in a folder: files NUMBER-DIGEST.pt, named after their place and content.

    They are whole or not there, and what is not as it was written is not read: the one before it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __bool__(self) -> bool:
        return bool(self._files())

    def save(self, state: Any) -> None:
        """Store a state as the newest, and let go of all but KEPT."""
        files = self._files()
        clear_partials(self.folder)  # of attempts that were killed while they wrote: they are large
        content = encoded(state)
        number = int(files[-1].name.partition("-")[0]) + 1 if files else 1
        with atomic(self.folder / f"{number:08d}-{digest(content)}.pt") as file:
            file.write(content)
        for old in files[: len(files) + 1 - KEPT]:
            old.unlink()

    def newest(self) -> Any | None:
        """The newest state that is as it was written, on the CPU; None where there is none. Others are warned of, and
        removed where they are damaged."""
        for path in reversed(self._files()):
            try:
                content = path.read_bytes()
                if digest(content) == path.stem.partition("-")[2]:
                    return load_state(path)
            except OSError as error:
                warnings.warn(f"{path} cannot be read ({error.strerror}); going on from an earlier one", stacklevel=2)
                continue
            warnings.warn(f"{path} is not what was written; going on from an earlier checkpoint", stacklevel=2)
            path.unlink()
        return None

    def _files(self) -> list[Path]:
        found = self.folder.glob("*.pt") if self.folder.is_dir() else ()
        return sorted(path for path in found if re.fullmatch(rf"\d{{8}}-[0-9a-f]{{{DIGITS}}}\.pt", path.name))


def digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def encoded(state: Any) -> memoryview:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def save_state(path: Path, state: Any) -> None:
    """`torch.save`, whole or not at all."""
    with atomic(path) as file:
        file.write(encoded(state))


def load_state(path: Path) -> Any:
    """What `save_state` wrote, on the CPU; refuses anything but plain values and tensors.

    Raises DatasetError for a file that is missing or damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not what was written"
        raise DatasetError(f"{path} cannot be read ({reason}); delete its folder and do that work again") from error


def restore_stream(stream: torch.Generator, state: torch.Tensor) -> None:
    """Go on with a stored random stream; one stored on another kind of device has no counterpart here, and `stream` stays
    as it was seeded."""
    if state.numel() == stream.get_state().numel():
        stream.set_state(state.cpu())
