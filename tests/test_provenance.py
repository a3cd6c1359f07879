"""What is written about the origin of a file."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from coworld_bench import provenance


def test_packages_are_named_with_their_versions() -> None:
    import numpy

    found = provenance.packages()
    assert found["numpy"] == numpy.__version__ and set(found) == set(provenance.PACKAGES)
    assert provenance.version("no-such-package-anywhere") is None


def test_the_machine_is_described_without_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in provenance.ROUNDING:
        monkeypatch.delenv(name, raising=False)
    described = provenance.machine()
    assert described["python"] == platform.python_version() and described["cores"] >= 1
    assert set(described) == {"python", "platform", "cpu", "cores"}
    assert platform.release() in described["platform"]


def test_what_changes_rounding_is_told_without_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    monkeypatch.setenv("LD_PRELOAD", "/home/me/one.so:/home/me/two.so")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "")
    told = {name: value for name, value in provenance.machine().items() if name in provenance.ROUNDING}
    assert told == {"MKL_CBWR": "COMPATIBLE", "LD_PRELOAD": "one.so two.so"}


def test_a_checkout_is_named_by_commit_and_a_wheel_by_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "package" / "provenance.py"))
    assert provenance.git_state() is None

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init")
    assert provenance.git_state() == {"commit": None, "dirty": True}
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "one")
    state = provenance.git_state()
    assert state is not None and len(state["commit"]) == 40 and state["dirty"] is False
    (tmp_path / "file").write_text("two")
    assert provenance.git_state() == state | {"dirty": True}


def test_importing_it_stays_light() -> None:
    command = "import sys, coworld_bench.provenance as p; p.packages(); p.machine(); print('torch' in sys.modules)"
    root = Path(provenance.__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"
