"""A folder behind a URL: S3, Google Cloud Storage, Hugging Face, a web server, or files. fsspec does the talking."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from coworld_bench.errors import DatasetError, MissingPackage, UsageError, UserError, named
from coworld_bench.files import atomic, sha256_file

T = TypeVar("T")

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub", "https": "aiohttp", "http": "aiohttp", "file": "fsspec"}
READ_ONLY = ("http", "https")
PATIENCE_S = 120.0  # for the answer to a request
PAUSES_S = (0.3, 1.0, 3.0, 9.0)  # before a request that failed is made again


class Absent(DatasetError):
    """There is nothing by this name."""


class Refused(DatasetError):
    """The store knows the request and does not grant it."""


class Ended(Refused):
    """The file has no such bytes."""


class Unreachable(DatasetError):
    """No answer, or one that broke off: worth another try."""


class Remote:
    """The folder that a URL names. What a store says goes wrong is raised as Absent, Refused or Unreachable, in a sentence
    that names the URL and no credential."""

    def __init__(self, url: str) -> None:
        """Raises UsageError for a URL that cannot name a folder. Nothing is asked of the store yet."""
        try:
            parts = urlsplit(url)
        except ValueError:
            raise UsageError(f"this is no URL: {url.rpartition('@')[2]}") from None
        if parts.scheme not in PACKAGES:
            schemes = ", ".join(f"{scheme}://" for scheme in PACKAGES)
            raise UsageError(f"the URL of a dataset begins with one of {schemes}; got {parts.scheme}://")
        login, _, host = parts.netloc.rpartition("@")
        self.scheme, self.url = parts.scheme, f"{parts.scheme}://{host}{parts.path}".rstrip("/")
        self.stop = Event()  # when it is set, nothing is tried again
        self._login = unquote(login)  # kept out of the URL, which others print
        if login and self.scheme not in READ_ONLY:
            raise UsageError(f"credentials do not belong into {self.url}; {LOGIN[self.scheme]}")
        if parts.query or parts.fragment or "::" in url:
            raise UsageError(f"the URL of a dataset is that of its folder, without ?, # or ::; got {self.url} and more")
        if not host + parts.path.strip("/"):
            raise UsageError(f"{self.url} names no folder; a URL looks like {parts.scheme}://place/folder")

    def head(self, name: str, count: int) -> bytes:
        """The first `count` bytes of a file, or all that it has."""
        return self._patiently(lambda attempt: self._cat(name, 0, count))

    def read(self, name: str, start: int, end: int) -> bytes:
        """Bytes of a file from `start` on: those before `end`, or fewer where the connection broke or the file ends, or
        all that follow from a server that knows no ranges. Empty when there are none."""
        return self._patiently(lambda attempt: self._cat(name, start, start + max(1, (end - start) // 4**attempt)))

    def _cat(self, name: str, start: int, end: int) -> bytes:
        try:
            with self._plainly("read", name):
                patience = {"timeout": PATIENCE_S} if self._store.async_impl else {}
                content = self._store.cat_file(f"{self._root}/{name}", start=start, end=end, **patience)
        except Ended:
            return b""
        return content if len(content) <= end - start else content[start:]

    def listing(self, below: str = "", there: bool = False) -> dict[str, Mapping[str, Any]]:
        """What the store tells now of every file, by its name below the folder, or below a folder in it; empty where there
        is no such folder. Raises Absent with `there` where not even a bucket is."""
        root = f"{self._root}/{below}".rstrip("/")

        def ask(attempt: int) -> dict[str, Mapping[str, Any]]:
            with self._plainly("list", below):
                self._store.invalidate_cache()
                found: dict[str, Mapping[str, Any]] = self._store.find(root, detail=True)
            return found

        try:
            found = self._patiently(ask)
        except Absent:
            if there:
                raise
            return {}
        return {path[len(root) :].lstrip("/"): info for path, info in found.items()}

    def holds(self, info: Mapping[str, Any], path: Path) -> bool:
        """Whether the store says of a file that its content is that of `path`; False where it does not say."""
        if info["size"] != path.stat().st_size:
            return False
        if self.scheme == "file":
            return sha256_file(Path(info["name"])) == sha256_file(path)
        said = {str(info.get("ETag")).strip('"'), base64.b64decode(info.get("md5Hash", "")).hex()}  # S3's and Google's
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() in said

    def put(self, path: Path, name: str) -> None:
        """Store a file under this name."""

        def ask(attempt: int) -> None:
            with self._plainly("write", name):
                self._store.put_file(str(path), f"{self._root}/{name}")

        self._patiently(ask)

    def info(self, name: str) -> Mapping[str, Any]:
        """What the store tells now of one file."""

        def ask(attempt: int) -> Mapping[str, Any]:
            with self._plainly("read", name):
                self._store.invalidate_cache()
                found: Mapping[str, Any] = self._store.info(f"{self._root}/{name}")
            return found

        return self._patiently(ask)

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file to `path`, which is then whole or as it was before."""

        def ask(attempt: int) -> None:
            with atomic(path) as file, self._plainly("read", name):
                self._store.get_file(f"{self._root}/{name}", file.name)

        self._patiently(ask)

    def write(self, name: str, content: bytes) -> None:
        """Store these bytes under this name."""

        def ask(attempt: int) -> None:
            with self._plainly("write", name):
                self._store.pipe_file(f"{self._root}/{name}", content)

        self._patiently(ask)

    def create(self, name: str, content: bytes) -> bool:
        """The same, unless there is something; whether there was nothing. Where an answer is lost on the way it may be
        False although the bytes are there."""

        def ask(attempt: int) -> bool:
            with self._plainly("write", name):
                try:
                    self._store.pipe_file(f"{self._root}/{name}", content, mode="create")
                except Exception as error:
                    if isinstance(error, FileExistsError) or status_of(error) in (409, 412):
                        return False
                    raise
            return True

        return self._patiently(ask)

    def put_together(self, folder: Path, names: list[str], gone: list[str]) -> None:
        """Store files of a folder, and remove those that are `gone`, in one commit of Hugging Face, which rations them."""
        from huggingface_hub import HfApi

        with self._plainly("write"):
            to = self._store.resolve_path(self._root)
            HfApi().upload_folder(
                repo_id=to.repo_id, repo_type=to.repo_type, revision=to.revision, path_in_repo=to.path_in_repo,
                folder_path=folder, allow_patterns=names, delete_patterns=gone, commit_message=f"Add {folder.name}",
            )  # fmt: skip

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is none the less removed."""

        def ask(attempt: int) -> None:
            with suppress(Absent), self._plainly("write", name):
                self._store.rm_file(f"{self._root}/{name}")

        self._patiently(ask)

    def _patiently(self, ask: Callable[[int], T]) -> T:
        """What `ask` returns, asked again after a pause for as long as the answer breaks off; it is told how often."""
        for attempt, pause in enumerate(PAUSES_S):
            if self.stop.is_set():
                break
            try:
                return ask(attempt)
            except Unreachable:
                self.stop.wait(pause)
        return ask(len(PAUSES_S))

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """fsspec's file system, and the folder as it calls it."""
        options: dict[str, Any] = {"skip_instance_cache": True}  # and with it listings of another time
        if self.scheme == "file":
            options["auto_mkdir"] = True
        if self.scheme in ("s3", "gs"):
            options["use_listings_cache"] = False  # of listings by another thread
        if self.scheme == "s3":
            options["config_kwargs"] = {"retries": {"total_max_attempts": 1}}
        if self.scheme in READ_ONLY:
            options["headers"] = {"Accept-Encoding": "identity"}  # a range is then one of the file, not of its compression
            if self._login:
                options["headers"]["Authorization"] = f"Basic {base64.b64encode(self._login.encode()).decode()}"
        try:
            from fsspec.core import url_to_fs

            store, root = url_to_fs(self.url, **options)
        except ImportError as error:
            extra = self.scheme.removesuffix("s") if self.scheme in READ_ONLY else self.scheme
            raise MissingPackage(PACKAGES[self.scheme], f'pip install "coworld-bench[{extra}]"') from error
        if self.scheme == "hf":
            with suppress(FileNotFoundError):
                store.find(root)  # else every file has its folder listed, by requests that are rationed
        store.retries = 1  # s3fs would ask five times for as much as broke off
        return store, root.rstrip("/")

    @property
    def _store(self) -> Any:
        return self._opened[0]

    @property
    def _root(self) -> str:
        return self._opened[1]

    @contextmanager
    def _plainly(self, verb: str, name: str = "") -> Iterator[None]:
        """Every store has its own family of exceptions; the cause is kept for --debug."""
        place = f"{self.url}/{name}".rstrip("/")
        try:
            yield
        except UserError:
            raise
        except FileNotFoundError as error:
            reason = "" if name in str(error) else f" ({named(error)})"
            raise Absent(f"there is no {place}{reason}") from error
        except Exception as error:
            status = status_of(error)
            if status in (404, 410):
                raise Absent(f"there is no {place} (status {status})") from error
            if status == 416:
                raise Ended(f"{place} is shorter than it should be") from error
            if isinstance(error, PermissionError) or status in (401, 403) or "Credentials" in type(error).__name__:
                raise Refused(f"no permission to {verb} {place} ({named(error)}); {LOGIN[self.scheme]}") from error
            if status is not None and 400 <= status < 500 and status not in (408, 429):
                raise Refused(f"cannot {verb} {place} ({named(error)})") from error
            raise Unreachable(f"cannot {verb} {place} ({named(error)}); try again when it answers") from error


LOGIN = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or FSSPEC_S3_ANON=true for a public bucket",
    "gs": "log in with `gcloud auth application-default login`, or set FSSPEC_GS_TOKEN=anon for a public bucket",
    "hf": "log in with `hf auth login`, or set HF_TOKEN",
    "http": "give user:password@ before the host where the server asks for one",
    "https": "give user:password@ before the host where the server asks for one",
    "file": "look at who may read and write there",
}


def time_of(info: Mapping[str, Any]) -> float:
    """When a file was written, in seconds, by the clock of its store."""
    told = info.get("LastModified") or info.get("mtime") or info.get("updated")  # S3's, files' and Google's
    if isinstance(told, str):
        told = datetime.fromisoformat(told)
    return told.timestamp() if isinstance(told, datetime) else float(told or 0.0)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an exception stands for, which every client library keeps elsewhere."""
    for seen in (error, error.__cause__):
        response = getattr(seen, "response", None)
        if isinstance(response, Mapping):  # botocore, which s3fs translates
            return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if response is not None:  # huggingface_hub
            return getattr(response, "status_code", None)
    found = str(getattr(error, "status", None) or getattr(error, "code", None))  # aiohttp, gcsfs
    return int(found) if found.isdigit() else None
