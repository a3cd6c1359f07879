"""What produced a file: package versions, commit, machine. No host or user names."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "coworld-bench", "torch", "numpy", "gymnasium", "metaworld", "mujoco", "dm_control", "robodesk", "minari", "zarr",
    "numcodecs", "h5py",
)  # fmt: skip
ROUNDING = (  # variables that can change how sums are rounded
    "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "NPY_DISABLE_CPU_FEATURES",
    "GLIBC_TUNABLES", "LD_PRELOAD",
)  # fmt: skip


def packages() -> dict[str, str | None]:
    """The installed version of every package that can change a result; None for one that is not installed."""
    return {name: version(name) for name in PACKAGES}


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_state() -> dict[str, Any] | None:
    """Commit and whether tracked files differ from it, of the checkout this package runs from; None in a wheel."""
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / ".git").exists():
        return None
    commit = git(checkout, "rev-parse", "HEAD")
    changed = git(checkout, "status", "--porcelain", "--untracked-files=no") != ""
    return {"commit": commit, "dirty": commit is None or changed}


def git(checkout: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails, as in a checkout without commits, or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(checkout), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def machine() -> dict[str, Any]:
    """Python, platform, processor, usable cores, and the ROUNDING of the environment."""
    described = {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.release()}-{platform.machine()}",
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
    }
    return described | {name: without_folders(os.environ[name]) for name in ROUNDING if os.environ.get(name)}


def without_folders(value: str) -> str:
    """The files of a variable by their names alone."""
    return " ".join(word.rpartition("/")[2] for word in value.replace(":", " ").split())


def processor() -> str:
    """The processor's model name."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
