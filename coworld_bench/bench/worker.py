"""A job's process: `python -m coworld_bench.bench.worker '{"kind": "train", …}' STATUS_FILE`.

Writes progress to stdout, one JSON object a line, and what it is at into its status file; whatever else is printed goes to
stderr, which the executor keeps."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from coworld_bench.bench.claims import claimed
from coworld_bench.bench.status import Status, attempt, keeping_status
from coworld_bench.data.lock import Busy
from coworld_bench.devices import keep_freed_memory
from coworld_bench.errors import INTERRUPTED, LOCKED, OK, OUT_OF_MEMORY, SOME_FAILED, UserError, about_fault, about_file
from coworld_bench.stopping import Stop, never, stop_on_signals

Observe = Callable[[dict[str, Any]], None]
PR_SET_PDEATHSIG = 1  # of Linux's prctl
Listening = Callable[[], AbstractContextManager[Stop]]


def unheard() -> AbstractContextManager[Stop]:
    return nullcontext(never)


def main(document: str, status_file: str) -> int:
    """Do one job; returns an exit code of `errors`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has it ignored
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # Slurm's are for whoever started this process, which asks it to stop
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    keep_freed_memory()
    asked, tell = json.loads(document), progress_channel()
    with keeping_status(Path(status_file), {"kind": asked["kind"], "job": asked["job"]}) as status:
        try:
            code, said = perform(asked, both(status.observe, tell), partial(listening_to, status))
        except KeyboardInterrupt:
            code, said = INTERRUPTED, "interrupted"
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # who still asks it to stop gets what they want
        if said:
            print(said, file=sys.stderr)
        status.end(code, said)
    return code


def both(one: Observe, other: Observe) -> Observe:
    def observe(progress: dict[str, Any]) -> None:
        one(progress)
        other(progress)

    return observe


@contextmanager
def listening_to(status: Status) -> Iterator[Stop]:
    """Hears signals, and what is asked by file. A parent that ends may say so once for each of its threads."""
    with stop_on_signals(insisting=False) as signalled:
        yield lambda: signalled() or status.asked_to_stop


def end_with_parent() -> None:
    """Be told to stop, as by SIGTERM, when whoever started this process is gone."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def perform(asked: dict[str, Any], observe: Observe, listening: Listening = unheard) -> tuple[int, str]:
    """Do one job in this process: an exit code of `errors`, and in a sentence what went wrong. `listening` hears when it is
    to stop at a checkpoint."""
    kind = asked.pop("kind")
    try:
        if kind == "anchors":
            return do_anchors(asked, observe), ""
        with listening() as stop:
            return KINDS[kind](asked, observe, stop), ""
    except Busy as busy:
        return LOCKED, f"waiting: {busy}"
    except UserError as error:
        return error.exit_code, f"error: {error}"
    except OSError as error:
        return SOME_FAILED, f"error: {about_file(error)}"
    except MemoryError as error:
        return OUT_OF_MEMORY, f"error: out of memory: {error}"
    except Exception as error:
        if is_out_of_gpu_memory(error):
            return OUT_OF_MEMORY, f"error: {' '.join(str(error).split())}"
        traceback.print_exc()
        return SOME_FAILED, f"error: {about_fault(error)}"


def is_out_of_gpu_memory(error: Exception) -> bool:
    """Without importing PyTorch, which may be what failed."""
    return any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)


def progress_channel() -> Observe:
    """Take stdout for progress and let everything that is printed go to stderr. Who listens may be gone."""
    channel = os.dup(1)
    os.dup2(2, 1)

    def tell(progress: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):
            os.write(channel, f"{json.dumps(progress)}\n".encode())

    return tell


def do_collect(asked: Mapping[str, Any], observe: Observe, stop: Stop) -> int:
    from coworld_bench.collecting import collect, plan_collection
    from coworld_bench.data.dataset import dataset_folder

    place = asked["place"]
    task, quality, preset, options = asked["task"], asked["quality"], asked["preset"], asked["options"]
    data = Path(place["data"])
    spec = plan_collection(task, quality, preset, options=options)
    with claimed(data, spec.id.replace("/", "-")) as claim:
        if (dataset_folder(data, spec.id) / "manifest.json").is_file():
            return OK
        made = collect(
            task, quality, preset=preset, options=options, data=data, device=place["device"], resume=True,
            observe=observe, stop=claim.guarding(stop),
        )  # fmt: skip
    return OK if made.fired else SOME_FAILED


def do_source(asked: Mapping[str, Any], observe: Observe, stop: Stop) -> int:
    from coworld_bench.sources import SourceSpec, pretrain_source

    place = asked["place"]
    spec, data = SourceSpec(**asked["spec"]), Path(place["data"])
    with claimed(data, spec.folder(data).name) as claim:
        pretrain_source(spec, data, place["device"], observe, claim.guarding(stop))
    return OK


def do_anchors(asked: Mapping[str, Any], observe: Observe) -> int:
    from coworld_bench.anchors import anchors_path, measure_anchors

    place, task, preset, options = asked["place"], asked["task"], asked["preset"], asked["options"]
    runs = Path(place["runs"])
    path = anchors_path(task, preset, runs, options)
    with claimed(runs, path.stem, path):
        measure_anchors(task, preset, runs, options, place["device"], observe=observe)
    return OK


def do_train(asked: Mapping[str, Any], observe: Observe, stop: Stop) -> int:
    from coworld_bench.run_spec import RunSpec
    from coworld_bench.training import train

    place = asked["place"]
    spec = RunSpec(**asked["spec"] | {"sources": tuple(asked["spec"]["sources"])})
    data, runs = Path(place["data"]), Path(place["runs"])
    run = spec.resolve(data).id
    with claimed(runs, run) as claim:
        # a repetition goes on from the checkpoint of the first, unless that was killed before it began anew
        anew = asked["force"] and (attempt() == 1 or (runs / run / "result.json").is_file())
        stop = claim.guarding(stop)
        train(
            spec, data=data, runs=runs, device=place["device"], force=anew, observe=observe, stop=stop,
            track=place["track"],
        )  # fmt: skip
    return OK


KINDS: dict[str, Callable[[Any, Observe, Stop], int]] = {  # that have checkpoints
    "collect": do_collect,
    "source": do_source,
    "train": do_train,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
