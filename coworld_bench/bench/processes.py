"""Which process this is, on which machine: so that another can tell whether it is still there."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

MACHINE = "host", "boot", "namespace"


def whoami() -> dict[str, Any]:
    """This process, as files tell of it: a pid means one process only on one machine, in one boot, in one namespace."""
    return dict(zip(MACHINE, machine(), strict=True)) | {"pid": os.getpid(), "started": started(os.getpid())}


def machine() -> tuple[str, str, str]:
    """Host name, boot and pid namespace: where a pid means one process."""
    boot = namespace = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    return socket.gethostname(), boot, namespace


def started(pid: int) -> str:
    """When a process was started, in ticks since boot; empty where there is none, or only what its parent has not heard."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def is_of_here(told: Mapping[str, Any]) -> bool:
    """Whether a process that a file tells of could be seen from here."""
    return bool(told.get("started")) and tuple(told.get(name) for name in MACHINE) == machine()


def is_gone(told: Mapping[str, Any]) -> bool:
    """Whether that process has ended for sure; False also where it cannot be seen from here."""
    return is_of_here(told) and started(told["pid"]) != told["started"]
