"""Slurm's queue: attempts go in through submitit, and squeue and scancel see to them there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stderr, suppress
from io import StringIO
from math import ceil
from pathlib import Path
from typing import Any

from coworld_bench.bench.backends.slurm_task import ASKED, WARNED, Task
from coworld_bench.bench.child import Limits
from coworld_bench.errors import MissingPackage, NotUsable, UsageError

MOST = 1000  # tasks in the queue: Slurm's own limit of an array, where a site did not change it
WARN_S, GRACE_S = 90, 60.0  # before its time limit Slurm warns a job; from then on it may take so long to stop
START_S = 120  # what a job takes beyond its attempt
SPARE_BYTES = 512 << 20  # what a job takes beside its attempt
OURS = frozenset(
    ("array", "output", "error", "open-mode", "signal", "requeue", "nodes", "ntasks", "ntasks-per-node", "wrap", "parsable")
)
OVER = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT")
)
NEVER = frozenset(
    ("AccountNotAllowed", "BadConstraints", "InvalidAccount", "InvalidQOS", "PartitionNodeLimit", "PartitionTimeLimit")
)


class Queue:
    """Slurm's queue for one command, with what its jobs read and write in `folder`, which every node sees.

    `parameters` are options of sbatch, `most` tasks of an array run at a time. Raises MissingPackage, NotUsable or
    UsageError where nothing can be submitted."""

    def __init__(self, folder: Path, parameters: Mapping[str, Any], most: int = MOST) -> None:
        self.folder = folder
        if shutil.which("sbatch") is None:
            raise NotUsable("--executor slurm is for machines of a Slurm cluster; this one has no sbatch command")
        try:
            import submitit
        except ImportError as error:
            raise MissingPackage("submitit", 'pip install "coworld-bench[slurm]"') from error
        self.sbatch = submitit.SlurmExecutor(folder)
        self.sbatch.update_parameters(**parameters, array_parallelism=most)

    def submit(self, tasks: Sequence[Task]) -> list[str]:
        """Their ids in the queue; several are one array. Raises UsageError where Slurm does not take them."""
        with outside_of_jobs(), redirect_stderr(StringIO()):  # submitit prints what it raises
            try:
                return [str(job.job_id) for job in self.sbatch.submit_array(tasks)]
            except (RuntimeError, OSError) as error:
                raise UsageError(
                    f"Slurm did not take the jobs: {reason(error)} (--slurm KEY=VALUE sets sbatch's options)"
                ) from error

    def states(self) -> dict[str, str] | None:
        """The state of each of this user's tasks that Slurm still remembers; None where it does not answer."""
        command = ["squeue", f"--user={os.getuid()}", "--array", "--states=all", "--noheader", "--format=%i|%T|%r"]
        try:
            told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
        except (subprocess.SubprocessError, OSError):
            return None
        rows = [line.strip().split("|", 2) for line in told.splitlines()]
        return {task: why if state == "PENDING" and why in NEVER else state for task, state, why in rows}

    def stop(self, tasks: Sequence[str]) -> None:
        """Take those that wait out of the queue, and ask those that run to stop at a checkpoint."""
        scancel("--state=PENDING", *tasks)
        scancel(f"--signal={ASKED.name}", *tasks)

    def cancel(self, tasks: Sequence[str]) -> None:
        scancel(*tasks)


def scancel(*words: str) -> None:
    """Where Slurm does not answer, nothing comes of it: what was to end goes on, or ends by itself."""
    with suppress(subprocess.SubprocessError, OSError):
        subprocess.run(["scancel", "--quiet", *words], check=False, capture_output=True, timeout=60)


def outside_of_jobs() -> AbstractContextManager[None]:
    """What Slurm told this process of its own job is not for those that it submits."""
    import submitit

    return submitit.helpers.clean_env() if "SLURM_JOB_ID" in os.environ else nullcontext()


def reason(error: Exception) -> str:
    """The last thing that sbatch said."""
    said = [line.strip() for line in str(error).splitlines() if "sbatch:" in line]
    return said[-1].removeprefix("sbatch:").removeprefix(" error:").strip() if said else str(error).strip()


def make_parameters(given: Mapping[str, str], limits: Limits, device: str) -> dict[str, Any]:
    """What submitit is told. An option of sbatch goes to it as it is given; `time` and `mem` follow from the limits, and
    a GPU from `device`, where they are not. Raises UsageError for an option that is this program's own."""
    options = {key.replace("_", "-"): value for key, value in given.items()}
    options = {{"timeout-min": "time"}.get(key, key): value for key, value in options.items()}
    for key in set(options) & OURS:
        raise UsageError(f"--slurm {key} is set by this program" + ("; --jobs limits an array" if key == "array" else ""))
    if "mem-gb" in options:
        options["mem"] = f"{options.pop('mem-gb')}G"
    delay = whole_number("signal-delay-s", options.pop("signal-delay-s", str(WARN_S)))
    setup, srun = options.pop("setup", ""), options.pop("srun-args", "").split()
    options = defaults(options, limits, device) | options
    if "cpus-per-task" in options:
        srun.append(f"--cpus-per-task={options['cpus-per-task']}")  # since Slurm 22.05 srun does not take it from the job
    return {
        "job_name": options.pop("job-name", "coworld-bench"),
        "time": None,  # that of the partition
        "wckey": None,
        "setup": [setup] if setup else None,
        "srun_args": srun,
        "additional_parameters": {key: flag(value) for key, value in options.items()}
        | {"requeue": True, "signal": f"{WARNED.name.removeprefix('SIG')}@{delay}"},
    }


def defaults(options: Mapping[str, str], limits: Limits, device: str) -> dict[str, str]:
    """Options that follow from others."""
    made = {}
    if limits.timeout_s is not None:
        made["time"] = str(ceil((limits.timeout_s + limits.grace_s + START_S) / 60))
    if limits.memory_bytes is not None and not any(key.startswith("mem") for key in options):
        made["mem"] = f"{ceil((limits.memory_bytes + SPARE_BYTES) / 2**20)}M"
    if device == "cuda" and not any(key.startswith(("gpu", "gres", "tres")) for key in options):
        made["gpus-per-node"] = "1"
    return made


def flag(value: str) -> str | bool:
    return True if value == "true" else value


def whole_number(key: str, text: str) -> int:
    if not text.isdigit():
        raise UsageError(f"--slurm {key} is a whole number of seconds; got {text!r}")
    return int(text)
