"""The Ray cluster that attempts run on: started or reached, asked what its nodes have, refused where that is not enough."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import coworld_bench
from coworld_bench.bench.backends.ray_task import Answer, Share, answer
from coworld_bench.errors import MissingPackage, NotUsable, UsageError, about_file, named

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # every line of Ray's that would be printed among ours
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what comes in its future versions; else it warns at every start
    "RAY_worker_niceness": "0",  # of a Ray of our own: runs get what they would get without it
}
REACH_S, PROBE_S = 5.0, 60.0
SETTINGS, SETTINGS_TYPE = 4, 3  # RFC 9113: the type of the frame that comes first, and the place of that byte in it
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])
OBJECTS = 100 << 20  # bytes for objects of a Ray of our own: endings of attempts are small
LOCAL = "local"
# A worker of Ray's that ends kills what it started; ours hear of its end themselves, and stop at a checkpoint.
WORKERS = {"env_vars": {"RAY_kill_child_processes_on_worker_exit": "false"}}


def import_ray() -> ModuleType:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise MissingPackage("ray", 'pip install "coworld-bench[ray]"') from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray


def connect(address: str | None, jobs: int | None) -> None:
    """Reach the cluster at `address`, else at $RAY_ADDRESS, else start one on this machine with a CPU for each of `jobs`.

    Raises UsageError for what is no address, NotUsable where no cluster answers in seconds."""
    ray = import_ray()
    if address in (None, "auto"):
        address = os.environ.get("RAY_ADDRESS") or address or LOCAL
    cores = jobs or len(os.sched_getaffinity(0))
    own = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": OBJECTS} if address == LOCAL else {}
    if address != LOCAL:
        check_reachable(address)
    try:
        with sigterm_kept(), unheard_stderr():
            ray.init(
                address, log_to_driver=False, logging_level="ERROR", configure_logging=False, runtime_env=WORKERS, **own
            )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise NotUsable(why_not(address, " ".join(str(error).split()))) from error


def why_not(address: str, said: str) -> str:
    """Ray does not say that a token is what it lacks."""
    hint = (
        "; where it asks for a token: RAY_AUTH_MODE=token and its ~/.ray/auth_token" if "ailed to connect" in said else ""
    )
    return f"the Ray cluster at {address} cannot be used: {said}{hint}"


def check_reachable(address: str) -> None:
    """Ray itself tries for minutes, and then ends the process."""
    if address == "auto":
        address = on_this_machine()
    if not re.fullmatch(r"[^\s/]+:\d{1,5}", address):
        raise UsageError(f"--address is auto or HOST:PORT, as `ray start --head` prints it; got {address!r}")
    host, _, port = address.rpartition(":")
    try:
        answered = speaks_grpc(host.strip("[]"), int(port))
    except (OSError, OverflowError) as error:
        reason = about_file(error) if isinstance(error, OSError) else "there is no such port"
        raise NotUsable(f"no Ray cluster at {address}: {reason}; `ray start --head` starts one") from error
    if not answered:
        raise NotUsable(f"what is at {address} is no Ray cluster; `ray start --head` starts one and prints its address")


def on_this_machine() -> str:
    """The address of the cluster that a node of runs here."""
    from ray._private.services import canonicalize_bootstrap_address

    try:
        return str(canonicalize_bootstrap_address("auto"))
    except ConnectionError as error:
        ways = "`ray start --head` starts one, and without --address a run starts its own"
        raise NotUsable(f"no node of a Ray cluster runs on this machine; {ways}") from error


def speaks_grpc(host: str, port: int) -> bool:
    """Whether a server answers the opening of HTTP/2, which carries gRPC, with its settings, as every one must."""
    with socket.create_connection((host, port), REACH_S) as connection:
        if os.environ.get("RAY_USE_TLS", "0").lower() not in ("0", "false"):
            return True
        connection.sendall(PREFACE)
        answer = connection.recv(SETTINGS_TYPE + 1)
    return len(answer) > SETTINGS_TYPE and answer[SETTINGS_TYPE] == SETTINGS


@contextmanager
def sigterm_kept() -> Iterator[None]:
    """What SIGTERM does stays as it is, whatever is called inside."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


@contextmanager
def unheard_stderr() -> Iterator[None]:
    """What Ray's C++ writes to stderr inside, a line for every try, is dropped."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@dataclass(frozen=True)
class Node:
    """A node that is alive, and what it has of each resource."""

    id: str
    name: str
    has: Mapping[str, float]


def nodes() -> list[Node]:
    import ray

    return [Node(node["NodeID"], node["NodeManagerHostname"], node["Resources"]) for node in ray.nodes() if node["Alive"]]


def share_of(device: str, per_gpu: int | None, memory: int | None, found: Sequence[Node]) -> Share:
    """What an attempt is to get of its node; `auto` takes GPUs where the cluster has any."""
    on_gpu = device == "cuda" or (device == "auto" and any(node.has.get("GPU") for node in found))
    return Share(1 / (per_gpu or 1) if on_gpu else 0.0, memory)


def check_room(share: Share, found: Sequence[Node]) -> None:
    """Raises NotUsable where no node has room for an attempt: Ray would wait for one for ever."""
    if not any(share.times(node.has) for node in found):
        have = "; ".join(sorted({resources(node.has) for node in found})) or "nothing"
        takes = f"a run takes {share} (--device, --per-gpu and --memory say so)"
        raise NotUsable(f"no node of the Ray cluster has room for a run: {takes}; nodes have: {have}")


def resources(has: Mapping[str, float]) -> str:
    memory = has.get("memory", 0) / 10**9
    return f"{has.get('CPU', 0):g} CPU, {has.get('GPU', 0):g} GPU, {memory:.3g} GB of memory"


def words(found: Sequence[Node]) -> str:
    """`2 nodes, 8 CPUs, 1 GPU`."""
    cpus, gpus = (int(sum(node.has.get(name, 0) for node in found)) for name in ("CPU", "GPU"))
    counts = {"node": len(found), "CPU": cpus, "GPU": gpus}
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items() if count)


class Beacons:
    """A file of its own in each folder that nodes must share with this machine, there as long as this is open."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.paths = tuple(beacon(folder.absolute()) for folder in folders)

    def close(self) -> None:
        for path in self.paths:
            if path.is_file():
                with suppress(OSError):
                    path.unlink()


def beacon(folder: Path) -> Path:
    """The folder itself where nothing can be written."""
    path = folder / ".locks" / f"ray-{uuid4().hex}.beacon"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError:
        return folder
    return path


def check_nodes(found: Sequence[Node], beacons: Beacons) -> None:
    """Ask every node what it sees and has installed. Raises NotUsable where that is not what this machine has."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(answer)
    asked = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(beacons.paths): node
        for node in found
    }
    _, silent = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_S)
    if silent:
        raise NotUsable(f"node {asked[silent[0]].name} of the Ray cluster began no process in {PROBE_S:.0f} s")
    for reference, node in asked.items():
        check_answer(answered(reference, node), node)


def answered(reference: Any, node: Node) -> Answer:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        reason = f"it needs the same coworld-bench as here, {coworld_bench.__version__}: {named(cause).split(chr(10))[0]}"
        raise NotUsable(f"node {node.name} of the Ray cluster cannot run coworld-bench; {reason}") from error


def check_answer(said: Answer, node: Node) -> None:
    if said.version != coworld_bench.__version__:
        here = coworld_bench.__version__
        raise NotUsable(f"node {node.name} of the Ray cluster has coworld-bench {said.version}; here it is {here}")
    if said.unseen:
        folders = " and ".join(said.unseen)
        raise NotUsable(
            f"node {node.name} of the Ray cluster does not see {folders}; --runs and --data must be shared folders"
        )
