"""Results in a bucket: a folder on this machine mirrors it, and all else works on that folder.

    refresh (in opened.py)   a reader's: what is new there comes here, without what only goes on with a run
    keeping                  a holder's: its part comes here whole; while it works what changes goes there, its result last

    MIRROR/.mirror/remote.json      which URL this mirrors, and a name for this mirror
    MIRROR/.mirror/parts/PART.json  what each file of a part was when it was last the same here and there
    MIRROR/.mirror/unsent/PART      there while this machine may have more of a part than the bucket
    BUCKET/.writers/PART            the mirror that worked on the part last

A part is what one claim is on: the folder of a run, or a file of anchors. Only who holds its lease changes it. A part that
is unsent here is sent if no other mirror has worked on it since; else what lies there counts, but for a run that is
finished here and not there.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from coworld_bench.bench.grounds import Bucket
from coworld_bench.bench.leases import Lease
from coworld_bench.data.remote import Absent, Remote, Unreachable, time_of
from coworld_bench.errors import STOPPED, DatasetError, NotUsable, UserError
from coworld_bench.files import read_json, write_json
from coworld_bench.paths import MIRROR

SEND_S = 20.0
PAUSES_S = (5.0, 15.0, 40.0)  # before what could not be sent at the end of a run is sent again
WRITERS = ".writers"
RESULT, STOP = "result.json", "stop"
ENDED = ("failed.json", STOP)  # what an earlier attempt ended with
OPEN = ("stderr.log", "status.json")  # what a process writes to while it fetches the part they lie in
DEEP = ("anchors", "runs", "conflicts")  # folders of parts
LOCAL = ("report", "logs")  # what every machine makes for itself
GOING_ON = ("checkpoints", "scratch")  # what goes on with a run, or plays it again
READ = (".json", ".jsonl", ".png", ".npz", ".log", "")
UNFINISHED = (".partial", ".lock", ".tmp")

Listing = Mapping[str, Mapping[str, Any]]
Kinds = Callable[[str], bool]


class OutOfReach(UserError):
    """The bucket does not answer now; the same command may succeed later."""

    exit_code = STOPPED


@dataclass(frozen=True)
class Known:
    """A file when it was the same here and there: its tag there, its size and date here."""

    tag: str
    size: int
    changed_ns: int

    def is_at(self, path: Path) -> bool:
        return self.as_found(path, self.tag) == self

    @classmethod
    def as_found(cls, path: Path, tag: str) -> Known | None:
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        return cls(tag, found.st_size, found.st_mtime_ns)


class Mirror:
    """A folder that mirrors a URL."""

    def __init__(self, home: Path, url: str, name: str) -> None:
        self.home, self.name, self.remote = home, name, Remote(url)
        self.ground = Bucket(self.remote)

    @contextmanager
    def keeping(self, part: str, lease: Lease, whole: bool = True) -> Iterator[None]:
        """Bring a part here that this process holds, and send what changes until it is let go. Without `whole`, what only
        goes on with a run stays there.

        Raises OutOfReach or NotUsable where the part cannot come here. Where it cannot be sent later the work goes on."""
        with plainly():
            self._settle(part, whole)
            self._unsent(part).parent.mkdir(parents=True, exist_ok=True)
            self._unsent(part).touch()
            self.remote.write(f"{WRITERS}/{part}", self.name.encode())
        sender = Sender(lambda: self._send_some(part, lease))
        try:
            yield
        finally:
            sender.end()
            self._send_all(part, lease)

    def fetch(self, part: str, there: Listing, kinds: Kinds) -> None:
        """Make the part here what it is there, as far as files of these kinds go. The caller has it locked."""
        known = self.known(part)
        try:
            for name, info in there.items():
                if kinds(name) and not self._same(known, name, info):
                    with suppress(Absent):  # it went away since it was listed
                        known[name] = self._fetch_one(name, info)
            for name in {*known, *(self.here(part) if kinds is every else ())} - set(there):
                if kinds(name):
                    (self.home / name).unlink(missing_ok=True)
                    known.pop(name, None)
        finally:
            self._remember(part, known)

    def differs(self, part: str, there: Listing) -> bool:
        """Whether there is something to fetch for a reader."""
        known = self.known(part)
        return any(read(name) and not (name in there and self._same(known, name, there[name])) for name in {*known, *there})

    def send(self, part: str, sure: Callable[[], bool] | None = None) -> None:
        """Make the part there what it is here: what a checkpoint needs before it, and the result last, if `sure` says so
        then; without `sure` it is left out."""
        here, known = self.here(part), self.known(part)  # what is written while files go out goes out next time
        result = f"{part}/{RESULT}"
        try:
            if result in known and result not in here:
                self._remove(known, result)
            for name in sorted(here, key=lambda name: (name == result, f"/{GOING_ON[0]}/" in name)):
                if not (name in known and known[name].is_at(here[name])) and (name != result or (sure and sure())):
                    self._send_one(known, name, here[name])
            for name in set(known) - set(here):
                self._remove(known, name)
        finally:
            self._remember(part, known)

    def send_file(self, path: Path) -> None:
        """Send one file of a part that is locked and that nobody holds."""
        name = path.relative_to(self.home).as_posix()
        known = self.known(part_of(name))
        self._send_one(known, name, path)
        self._remember(part_of(name), known)

    def there(self, part: str) -> Listing:
        """The files of a part in the bucket, as the store tells of them."""
        folder = part.rpartition("/")[0] if part.endswith(".json") else part
        found = {f"{folder}/{name}": info for name, info in self.remote.listing(folder).items()}
        return {name: info for name, info in found.items() if folder == part or name == part}

    def here(self, part: str) -> dict[str, Path]:
        """The files of a part on this machine that are whole, by name."""
        top = self.home / part
        paths = [top] if top.is_file() else [path for path in top.rglob("*") if path.is_file()]
        found = {path.relative_to(self.home).as_posix(): path for path in paths}
        return {name: path for name, path in found.items() if ours(name)}

    def unsent(self) -> list[str]:
        """The parts of which this machine may have more than the bucket."""
        marks = (self.home / MIRROR / "unsent").glob("*")
        return [path.name.replace("+", "/") for path in sorted(marks)]

    def parts(self) -> list[str]:
        """Those of which something was fetched or sent."""
        return [path.stem.replace("+", "/") for path in sorted((self.home / MIRROR / "parts").glob("*.json"))]

    def is_unsent(self, part: str) -> bool:
        return self._unsent(part).exists()

    def _settle(self, part: str, whole: bool) -> None:
        """See the module."""
        there, here = self.there(part), self.here(part)
        finished = part if part.endswith(".json") else f"{part}/{RESULT}"
        if self._unsent(part).exists() and here:
            alone = self._last_writer(part) in ("", self.name)
            if alone or (finished in here and finished not in there):
                self._compare(part, there)
                self.send(part, lambda: True)
                return
        self.fetch(part, there, every if whole else read)
        if not whole:
            self._drop(part, lambda name: every(name) and not read(name))
        elif (self.home / part).is_dir():
            for name in ENDED:
                (self.home / part / name).unlink(missing_ok=True)

    def _compare(self, part: str, there: Listing) -> None:
        """Remember of each file what is there now, so that sending the part makes it what it is here."""
        known = {name: found for name, found in self.known(part).items() if name in there and found.tag == tag(there[name])}
        others = {name: Known(tag(info), -1, -1) for name, info in there.items() if every(name) and name not in known}
        self._remember(part, known | others)

    def _drop(self, part: str, kinds: Kinds) -> None:
        """Remove files of these kinds here and forget them, so that they are not sent."""
        known = self.known(part)
        for name, path in self.here(part).items():
            if kinds(name):
                path.unlink()
        self._remember(part, {name: found for name, found in known.items() if not kinds(name)})

    def _send_some(self, part: str, lease: Lease) -> None:
        """What is new, and hear whether the run is asked to stop."""
        if lease.lost:
            return
        stop, there, known = f"{part}/{STOP}", self.there(part), self.known(part)
        if stop in there and stop not in known:
            known[stop] = self._fetch_one(stop, there[stop])
            self._remember(part, known)
        self.send(part)

    def _send_all(self, part: str, lease: Lease) -> None:
        for pause in (*PAUSES_S, None):
            try:
                if lease.look():
                    self.send(part, lease.look)
                    if not lease.lost:
                        self._unsent(part).unlink(missing_ok=True)
                return
            except (UserError, OSError) as error:
                if pause is None:
                    say(f"{error}. What is missing there of {part} is kept in {self.home}; the next command sends it")
                else:
                    time.sleep(pause)

    def _last_writer(self, part: str) -> str:
        try:
            return self.remote.head(f"{WRITERS}/{part}", 100).decode()
        except Absent:
            return ""

    def _same(self, known: dict[str, Known], name: str, info: Mapping[str, Any]) -> bool:
        return name in known and known[name].tag == tag(info) and known[name].is_at(self.home / name)

    def _fetch_one(self, name: str, info: Mapping[str, Any]) -> Known:
        path = self.home / name
        self.remote.fetch(name, path)
        os.utime(path, (time_of(info), time_of(info)))
        unchanged = tag(self.remote.info(name)) == tag(info)
        found = Known.as_found(path, tag(info) if unchanged else "not known")
        assert found is not None, path
        return found

    def _send_one(self, known: dict[str, Known], name: str, path: Path) -> None:
        """Send a file, unless it went away meanwhile."""
        before = Known.as_found(path, "")
        if before is None:
            return
        try:
            self.remote.put(path, name)
        except Absent:
            if path.exists():
                raise
            return
        known[name] = Known(tag(self.remote.info(name)), before.size, before.changed_ns)

    def _remove(self, known: dict[str, Known], name: str) -> None:
        self.remote.remove(name)
        del known[name]

    def known(self, part: str) -> dict[str, Known]:
        path = self._memory(part)
        return {name: Known(**told) for name, told in read_json(path)["files"].items()} if path.is_file() else {}

    def _remember(self, part: str, known: dict[str, Known]) -> None:
        if known != self.known(part):
            write_json(self._memory(part), {"schema": 1, "files": {name: asdict(found) for name, found in known.items()}})

    def _memory(self, part: str) -> Path:
        return self.home / MIRROR / "parts" / f"{part.replace('/', '+')}.json"

    def _unsent(self, part: str) -> Path:
        return self.home / MIRROR / "unsent" / part.replace("/", "+")


class Sender:
    """A thread that sends every SEND_S what is new; where that fails it says so once, and goes on trying."""

    def __init__(self, send: Callable[[], None]) -> None:
        self.send, self.ended, self.failing = send, threading.Event(), False
        self.thread = threading.Thread(target=self._work, name="sender", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while not self.ended.wait(SEND_S):
            try:
                self.send()
            except (UserError, OSError) as error:
                if not self.failing:
                    say(f"{error}. The work goes on here, and what is missing there is sent later")
                self.failing = True
            else:
                self.failing = False

    def end(self) -> None:
        self.ended.set()
        self.thread.join()


def say(what: str) -> None:
    print(f"warning: {what}", file=sys.stderr, flush=True)


@contextmanager
def plainly() -> Iterator[None]:
    """What goes wrong with a bucket of results is no fault of a dataset."""
    try:
        yield
    except Unreachable as error:
        raise OutOfReach(str(error)) from error
    except DatasetError as error:
        raise NotUsable(str(error)) from error


def part_of(name: str) -> str:
    """The part that a file belongs to, of its name in the store."""
    words = name.split("/")
    return "/".join(words[: 2 if words[0] in DEEP else 1])


def ours(name: str) -> bool:
    """Whether a file goes from a mirror to its bucket."""
    words = name.split("/")
    hidden = any(word.startswith(".") for word in words)
    return not (hidden or words[0] in LOCAL or name.endswith(UNFINISHED))


def every(name: str) -> bool:
    """Whether who goes on with a run needs the file from there."""
    return ours(name) and Path(name).name not in OPEN


def read(name: str) -> bool:
    """Whether reports, or people, read it."""
    return ours(name) and Path(name).suffix in READ and not any(word in GOING_ON for word in name.split("/"))


def tag(info: Mapping[str, Any]) -> str:
    """What a store changes with the content of a file."""
    return str(info.get("ETag") or info.get("etag") or info.get("md5Hash")).strip('"')


def mirror_at(home: Path) -> Mirror | None:
    """The mirror that a folder of results is; None for a folder that is no mirror."""
    told = home / MIRROR / "remote.json"
    if not told.is_file():
        return None
    content = read_json(told)
    return opened(home, content["url"], content["mirror"])


@lru_cache(maxsize=16)
def opened(home: Path, url: str, name: str) -> Mirror:
    return Mirror(home, url, name)
