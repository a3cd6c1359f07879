"""How a plan's jobs are run: where, how many share a GPU, and what each may take."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coworld_bench.bench.backends import Backend
from coworld_bench.bench.backends.local import Here, Local
from coworld_bench.bench.child import Limits
from coworld_bench.bench.job import Job, Watch
from coworld_bench.bench.jobs import Place
from coworld_bench.bench.retrying import Retries
from coworld_bench.data.budget import PROCESSES
from coworld_bench.devices import GPU_SHARE, THREADS, choose_device
from coworld_bench.errors import UsageError, unknown
from coworld_bench.files import digest_of

EXECUTORS = ("local", "ray", "slurm")
SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
BYTES = {"mb": 10**6, "gb": 10**9, "tb": 10**12, "mib": 2**20, "gib": 2**30, "tib": 2**40}


@dataclass(frozen=True)
class Execution:
    """`executor`: local (processes of this machine), ray (those of a Ray cluster at `address`) or slurm (an array of jobs,
    with `slurm` as their parameters). `per_gpu` processes share a GPU; an attempt may take `timeout_s` seconds and
    `memory_bytes`; it is repeated up to `retries` times where that helps. `shard` (i, n): only every n-th run, from the
    i-th on, counted from 0."""

    executor: str = "local"
    per_gpu: int | None = None
    timeout_s: float | None = None
    memory_bytes: int | None = None
    retries: int = 2
    shard: tuple[int, int] | None = None
    address: str | None = None
    slurm: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raises UsageError for what cannot be meant."""
        if self.executor not in EXECUTORS:
            raise unknown("executor", self.executor, EXECUTORS)
        if self.per_gpu is not None and self.per_gpu < 1:
            raise UsageError(f"--per-gpu must be at least 1; got {self.per_gpu}")
        if self.retries < 0:
            raise UsageError(f"--retries must be at least 0; got {self.retries}")
        if self.address is not None and self.executor != "ray":
            raise UsageError("--address is that of a Ray cluster; it goes with --executor ray")
        if self.slurm and self.executor != "slurm":
            raise UsageError("--slurm sets parameters of Slurm's jobs; it goes with --executor slurm")
        if self.per_gpu is not None and self.executor == "slurm":
            raise UsageError("--per-gpu does not go with --executor slurm, which hands out GPUs itself: --slurm gres=gpu:1")

    @property
    def limits(self) -> Limits:
        return Limits(self.timeout_s, self.memory_bytes)

    @property
    def policy(self) -> Retries:
        return Retries(self.retries)

    def device(self, name: str) -> str:
        """The device as a job's process is told it: decided here where jobs run here."""
        return choose_device(name) if self.executor == "local" else name


LOCAL = Execution()


def make_backend(execution: Execution, place: Place, jobs: int | None, watch: Watch) -> Backend:
    """Where attempts run, `jobs` at a time at most. Raises NotUsable where that is not to be had."""
    if execution.executor == "local":
        return Here(watch) if jobs == 0 else Local(make_slots(place.device, jobs, execution.per_gpu), execution.limits)
    if jobs == 0:
        raise UsageError("--jobs 0 does all work in this process; it goes with --executor local")
    if execution.executor == "ray":
        from coworld_bench.bench.backends.ray import Ray

        folders = place.runs, place.data
        return Ray(folders, execution.limits, place.device, execution.per_gpu, jobs, execution.address)
    from coworld_bench.bench.backends.slurm import make_slurm

    return make_slurm(place.runs, place.device, jobs, execution.limits, execution.slurm)


def make_slots(device: str, jobs: int | None, per_gpu: int | None = None) -> list[dict[str, str]]:
    """What each process that works at the same time adds to its environment."""
    if device != "cuda":
        count = len(os.sched_getaffinity(0)) if jobs is None else jobs
        slots = [dict.fromkeys(THREADS, "1") for _ in range(count)]
    else:
        slots = gpu_slots(visible_gpus(), jobs, per_gpu)
    return [slot | {PROCESSES: str(len(slots))} for slot in slots]


def gpu_slots(gpus: Sequence[str], jobs: int | None, per_gpu: int | None) -> list[dict[str, str]]:
    """`jobs` slots spread over the GPUs, or `per_gpu` on each; both together: no more than either says."""
    count = len(gpus) * (per_gpu or 1) if jobs is None else jobs
    if jobs is not None and per_gpu is not None:
        count = min(jobs, len(gpus) * per_gpu)
    most = -(-count // len(gpus))
    share = {GPU_SHARE: f"{1 / most:.4f}"} if most > 1 else {}
    return [{"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)], **share} for index in range(count)]


def visible_gpus() -> list[str]:
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]


def shard_of(jobs: Sequence[Job], shard: tuple[int, int] | None) -> list[Job]:
    """The runs of a shard and what they need; sets of anchors are of every shard, and made by the first that comes.

    Runs are dealt out shuffled, the same way on every machine: methods stand in the plan's order, and differ in length."""
    if shard is None:
        return list(jobs)
    index, count = shard
    mine = sorted((job for job in jobs if job.kind == "train"), key=lambda job: digest_of(job.key))[index::count]
    needed = {job.key for job in mine} | {need for job in mine for need in job.needs}
    return [job for job in jobs if job.kind == "anchors" or job.key in needed]


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """`0/2` as (0, 2). Raises UsageError for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if found is None or not int(found[1]) < int(found[2]):
        raise UsageError(f"--shard is written i/n, with i from 0 to n - 1, as 0/4; got {text!r}")
    return int(found[1]), int(found[2])


def parse_duration(text: str | None) -> float | None:
    """`90s`, `30min`, `48h` or `2d` in seconds; a bare number is seconds. Raises UsageError for anything else."""
    return _quantity(text, SECONDS | {"": 1}, "--timeout", "90s, 30min, 48h or 2d")


def parse_size(text: str | None) -> int | None:
    """`8GB`, `500MB` or `2GiB` in bytes. Raises UsageError for anything else."""
    size = _quantity(text, BYTES, "--memory", "8GB or 500MB")
    return None if size is None else int(size)


def _quantity(text: str | None, units: Mapping[str, int], option: str, like: str) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    if found is None or found[2].lower() not in units or not float(found[1]):
        raise UsageError(f"{option} is written like {like}; got {text!r}")
    return float(found[1]) * units[found[2].lower()]
