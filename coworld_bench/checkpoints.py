"""States of learners and agents on disk."""

from __future__ import annotations

import io
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from coworld_bench.errors import DatasetError
from coworld_bench.files import atomic


def save_state(path: Path, state: Any) -> None:
    """`torch.save`, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic(path) as file:
        file.write(buffer.getbuffer())


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
