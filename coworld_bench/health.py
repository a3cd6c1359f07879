"""What the project needs of a machine, and whether it is there."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from coworld_bench.errors import NotUsable
from coworld_bench.provenance import packages, version

ROBODESK = "pip install --no-deps robodesk==1.0.0"
FREE_GIB = 2.0  # a quick Meta-World dataset is about 0.1 GiB, a table of runs about 1


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    detail: str
    needed: bool = True

    @property
    def verdict(self) -> str:
        return "ok" if self.ok else "missing" if self.needed else "absent"


def examine(data: Path, runs: Path) -> list[Check]:
    """All checks, in the order in which one repairs them."""
    checks = [check_python(), *check_packages(), check_opengl_works(), check_robodesk(), check_cuda()]
    return [*checks, check_disk("datasets", data), check_disk("results", runs)]


def check_python() -> Check:
    good = (3, 11) <= sys.version_info[:2] <= (3, 12)
    return Check("Python", good, platform.python_version() + ("" if good else "; 3.11 or 3.12 is needed"))


def check_packages() -> list[Check]:
    found = {name: number for name, number in packages().items() if name != "robodesk"}
    return [Check(name, number is not None, number or f"pip install {name}") for name, number in found.items()]


def check_opengl_works() -> Check:
    from coworld_bench.envs import check_opengl

    try:
        drawn = check_opengl()
    except NotUsable as error:
        return Check("OpenGL", False, str(error))
    return Check("OpenGL", True, f"{drawn['backend']}: {drawn['renderer']}, {drawn['version']}")


def check_robodesk() -> Check:
    found = version("robodesk")
    return Check("RoboDesk", found is not None, found or f"for robodesk tasks alone: {ROBODESK}", needed=False)


def check_cuda() -> Check:
    import torch

    if torch.cuda.is_available():
        return Check("CUDA", True, f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}", needed=False)
    return Check("CUDA", False, f"runs go to {len(os.sched_getaffinity(0))} CPU core(s)", needed=False)


def check_disk(name: str, folder: Path) -> Check:
    """Free space and the right to write where the folder is, or will be."""
    if folder.exists() and not folder.is_dir():
        return Check(f"disk for {name}", False, f"{folder} is a file, not a folder")
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(there).free / 2**30
    writable = os.access(there, os.W_OK)
    detail = f"{free:.1f} GiB free for {folder}" + ("" if writable else "; not writable")
    return Check(f"disk for {name}", writable and free >= FREE_GIB, detail)
