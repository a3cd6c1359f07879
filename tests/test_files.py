"""Whether a folder can be written, tried before hours of work."""

from __future__ import annotations

from pathlib import Path

import pytest

from coworld_bench.files import try_folder


@pytest.mark.parametrize("path", ["", "new", "new/inner"])
def test_trying_a_folder_leaves_nothing_behind(tmp_path: Path, path: str) -> None:
    try_folder(tmp_path / path)
    assert not list(tmp_path.iterdir())


def test_a_folder_below_the_working_folder_is_tried_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try_folder(Path("new"))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_told_now(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, error in (
        (tmp_path / "file" / "new", NotADirectoryError),
        (Path("/proc"), FileNotFoundError),  # it is there, and takes no files
        (Path("/proc/nowhere/new"), FileNotFoundError),
    ):
        with pytest.raises(error) as raised:
            try_folder(place)
        assert raised.value.filename == str(place)
