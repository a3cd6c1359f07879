"""Datasets that come and go by URL: what arrives is what was sent, however often connections break, or it is refused."""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import numpy as np
import pytest
from fsspec.registry import known_implementations
from made_episodes import DATASET, card, played, several
from made_servers import breaking_line, serving, serving_s3

from coworld_bench.cli import main
from coworld_bench.data import fetching, remote
from coworld_bench.data.build import build
from coworld_bench.data.chunks import Damaged
from coworld_bench.data.dataset import list_datasets, open_dataset
from coworld_bench.data.integrity import verify
from coworld_bench.data.lock import WriterLock
from coworld_bench.data.memory import BatchStream
from coworld_bench.data.remote import Remote
from coworld_bench.data.shipping import pull, push
from coworld_bench.errors import DatasetError, UsageError, UserError
from coworld_bench.files import digest_of, read_json

SHARDS = [f"data.zarr/frames/image/c/{number}/0/0/0" for number in range(3)]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of noise, so that two of them are larger than a block of the transfer."""
    rng, home = np.random.default_rng(0), tmp_path_factory.mktemp("original")
    episodes = [played(number, 1100) for number in range(4)]
    noisy = [dataclasses.replace(e, image=rng.integers(0, 256, e.image.shape, np.uint8)) for e in episodes]
    return build(noisy, home / DATASET, card(quality={"label": "medium-replay"}))


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "served")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with serving_s3("datasets") as url:
        yield url


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES_S", (0.01,) * 4)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def size_of(folder: Path) -> int:
    """Bytes of a dataset without its manifest."""
    return sum(entry["size"] for entry in read_json(folder / "manifest.json")["files"].values())


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest and make its own checksum fit again, as one who means harm would."""
    manifest = read_json(folder / "manifest.json")
    change(manifest)
    del manifest["sha256"]
    (folder / "manifest.json").write_text(json.dumps(manifest | {"sha256": digest_of(manifest)}))


def assert_whole(folder: Path, original: Path) -> None:
    assert contents(folder) == contents(original)
    assert verify(folder, full=True).ok


def program(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "coworld_bench.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# ---- there and back


@pytest.mark.parametrize("store", ["s3", "file"])
def test_a_dataset_goes_to_a_store_and_comes_back(original: Path, tmp_path: Path, bucket: str, store: str) -> None:
    url = f"{bucket}/round/trip" if store == "s3" else f"file://{tmp_path}/far away"
    sent = push(original, url)
    assert (sent.bytes_skipped, sent.files) == (0, len(contents(original)))
    done = pull(url, tmp_path / "home")
    assert done.folder == tmp_path / "home" / DATASET and done.url == url
    assert done.fingerprint == open_dataset(original).fingerprint
    assert (done.bytes_moved, done.bytes_skipped) == (size_of(original), 0)
    assert_whole(done.folder, original)
    again, resent = pull(url, tmp_path / "home"), push(original, url)
    assert (again.bytes_moved, again.bytes_skipped) == (0, size_of(original))
    assert (resent.bytes_moved, resent.bytes_skipped) == (0, sent.bytes_moved)


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("cuts", [0, 2])
def test_a_web_server_that_cuts_connections(original: Path, tmp_path: Path, ranges: bool, cuts: int) -> None:
    asked: Counter[str] = Counter()

    def cut(name: str, start: int) -> bool:
        asked[name] += 1
        return asked[name] <= cuts

    with serving(original, ranges=ranges) as server:
        server.cut = cut
        done = pull(server.url, tmp_path)
    assert min(asked.values()) == cuts + 1, "every file was cut so often"
    assert_whole(done.folder, original)
    assert done.bytes_moved == size_of(original)


def test_a_store_behind_a_line_that_breaks(
    original: Path, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(original, f"{bucket}/far")
    with breaking_line(os.environ["AWS_ENDPOINT_URL"], every=400_000) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
        done = pull(f"{bucket}/far", tmp_path)
    assert line.broken >= 3
    assert_whole(done.folder, original)


def test_a_server_that_falls_silent_is_asked_again(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PATIENCE_S", 1.0)
    asked, released = Counter(), Event()  # type: ignore[var-annotated]

    def silent(name: str, start: int) -> None:
        asked[name] += 1
        if name in SHARDS and asked[name] == 1:
            released.wait(60)

    with serving(original) as server:
        server.before = silent
        assert_whole(pull(server.url, tmp_path).folder, original)
        assert asked[SHARDS[2]] > 1 and not released.is_set()
        released.set()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_always_cuts_is_given_up_and_what_came_is_kept(
    original: Path, tmp_path: Path, ranges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "BLOCK", 2**17)
    monkeypatch.setattr(fetching, "THREADS", 1)
    size = (original / SHARDS[0]).stat().st_size
    with serving(original) as server:
        server.cut = lambda name, start: name == SHARDS[0] and start >= 2**20
        with pytest.raises(DatasetError, match=f"cannot read {server.url}/{SHARDS[0]}.*try again"):
            pull(server.url, tmp_path)
        with pytest.raises(DatasetError, match="unfinished"):
            open_dataset(DATASET, tmp_path)
        (growing,) = (tmp_path / DATASET).rglob("*.partial")
        assert growing.stat().st_size == 2**20
        server.cut, server.ranges, server.sent = (lambda name, start: False), ranges, {}
        done = pull(server.url, tmp_path)
    assert server.sent[SHARDS[0]] == (size - 2**20 if ranges else size), "one answer holds all that was missing"
    assert_whole(done.folder, original)


def test_a_pull_that_is_killed_goes_on_where_it_was(original: Path, tmp_path: Path) -> None:
    shards = [(original / name).stat().st_size for name in SHARDS]
    with serving(original) as server:
        held, release = [], Event()

        def hold(name: str, start: int) -> None:
            if start:  # the second block of a shard
                held.append(name)
                release.wait(30)

        server.before = hold
        child = program("data", "pull", server.url, "--data", tmp_path, "--json")
        due = size_of(original) - sum(shards[:2]) + 2 * fetching.BLOCK

        def here() -> int:
            found = contents(tmp_path / DATASET)
            return sum(len(content) for name, content in found.items() if name != "writer.lock")

        deadline = time.monotonic() + 40
        while (len(held) < 2 or here() < due) and time.monotonic() < deadline and child.poll() is None:
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert sorted(held) == SHARDS[:2]
        release.set()
        with pytest.raises(DatasetError, match="unfinished"):
            open_dataset(DATASET, tmp_path)
        first, server.sent, server.before = dict(server.sent), {}, lambda name, start: None
        done = pull(server.url, tmp_path)
    assert_whole(done.folder, original)
    assert set(server.sent) == {"manifest.json", *SHARDS[:2]}
    assert done.bytes_moved == sum(shards[:2]) - 2 * fetching.BLOCK
    assert done.bytes_moved < size_of(original) / 2 < sum(first.values())


def test_a_push_that_stops_before_the_manifest_is_unfinished(
    original: Path, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, put = f"{bucket}/half", Remote.put

    def killed(to: Remote, path: Path, name: str) -> None:
        if name == "manifest.json":
            raise KeyboardInterrupt
        put(to, path, name)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Remote, "put", killed)
        push(original, url)
    with pytest.raises(DatasetError, match=f"{url} holds an unfinished dataset"):
        pull(url, tmp_path)
    assert not list(tmp_path.iterdir())
    done = push(original, url)
    assert (done.bytes_moved, done.bytes_skipped) == ((original / "manifest.json").stat().st_size, size_of(original))
    assert_whole(pull(url, tmp_path).folder, original)


def test_two_that_pull_at_once_are_told(copy: Path, tmp_path: Path) -> None:
    lock = WriterLock(tmp_path / "home" / DATASET)
    with pytest.raises(UserError, match="being written by process"):
        pull(f"file://{copy}", tmp_path / "home")
    lock.release()
    assert pull(f"file://{copy}", tmp_path / "home").bytes_skipped == 0


# ---- what does not fit


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("fault", ["flipped", "shorter", "longer"])
def test_a_file_that_is_not_what_the_manifest_says_is_not_kept(
    copy: Path, tmp_path: Path, fault: str, ranges: bool
) -> None:
    path = copy / SHARDS[1]
    content = path.read_bytes()
    if fault == "flipped":
        flip(path, len(content) - 7)
    else:
        path.write_bytes(content[:-7] if fault == "shorter" else content + b"more")
    with serving(copy, ranges=ranges) as server:
        if fault == "longer":  # its beginning is what it should be, and no more is taken
            assert contents(pull(server.url, tmp_path / "home").folder)[SHARDS[1]] == content
            return
        with pytest.raises(DatasetError, match=rf"{server.url}/{SHARDS[1]} is damaged \(sha256"):
            pull(server.url, tmp_path / "home")
        found = contents(tmp_path / "home" / DATASET)
        assert not [name for name in found if "image/c/1" in name or name == "manifest.json"]
        path.write_bytes(content)
        done = pull(server.url, tmp_path / "home")
    assert verify(done.folder).ok and done.bytes_skipped > 0


def test_a_damaged_part_is_thrown_away_and_a_damaged_file_fetched_again(original: Path, tmp_path: Path) -> None:
    folder = pull(f"file://{original}", tmp_path).folder
    (folder / "manifest.json").unlink()
    target, digest = folder / SHARDS[0], read_json(original / "manifest.json")["files"][SHARDS[0]]["sha256"]
    target.rename(fetching.partial_path(target, digest))
    flip(fetching.partial_path(target, digest), 99)
    done = pull(f"file://{original}", tmp_path)
    assert done.bytes_moved == target.stat().st_size
    assert_whole(folder, original)
    flip(folder / SHARDS[2], 5)
    assert not verify(folder).ok
    done = pull(f"file://{original}", tmp_path)
    assert done.bytes_moved == (original / SHARDS[2]).stat().st_size
    assert_whole(folder, original)


ENTRY = {"size": 1, "sha256": "0" * 64}


def named(name: str, entry: object = ENTRY) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["files"].update({name: entry})


@pytest.mark.parametrize(
    "change",
    [
        named("../x"),
        named("/tmp/x"),
        named("data.zarr/../../x"),
        named("data.zarr/./x"),
        named("data.zarr//x"),
        named("data.zarr/a\\..\\x"),
        named("data.zarr/\x00"),
        named("data.zarr/.zshrc"),
        named("staging/000000-15.npz"),
        named("manifest.json"),
        named("writer.lock"),
        named("data.zarr"),
        named("README.md/x"),
        named("data.zarr/" + "a/" * 20 + "a"),
        named("preview/x", {"size": -1, "sha256": "0" * 64}),
        named("preview/x", {"size": True, "sha256": "0" * 64}),
        named("preview/x", {"size": "1", "sha256": "0" * 64}),
        named("preview/x", {"size": 1, "sha256": "../" * 21 + "x"}),
        named("preview/x", [1]),
        named("preview/x", {"size": 10**18, "sha256": "0" * 64}),
        lambda manifest: manifest.update(files=[]),
        lambda manifest: manifest.update(files={}),
        lambda manifest: manifest.update(card=None),
        lambda manifest: manifest.update(fingerprint="0" * 64),
        lambda manifest: manifest.update(dataset_id="toy/point/other-v0"),
        lambda manifest: manifest.update(format_version="coworld-bench/9"),
    ],
)
def test_a_hostile_manifest_is_refused_before_anything_is_written(
    copy: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    change_manifest(copy, change)
    before = contents(tmp_path)
    for opened in (pull, open_dataset):
        with pytest.raises(DatasetError):
            opened(f"file://{copy}", tmp_path / "home")
    assert contents(tmp_path) == before and not (tmp_path / "home").exists()


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"{}", b"[" * 100_000, b'{"a": 1}', b"\xff\xfe"])
def test_what_is_no_manifest_is_refused(copy: Path, tmp_path: Path, content: bytes) -> None:
    (copy / "manifest.json").write_bytes(content)
    with pytest.raises(DatasetError, match=r"manifest.json is damaged"):
        pull(f"file://{copy}", tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_manifest_of_countless_files_is_not_read(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "LARGEST_MANIFEST", (copy / "manifest.json").stat().st_size)
    pull(f"file://{copy}", tmp_path / "home")
    change_manifest(copy, lambda manifest: manifest["files"].update({f"preview/{n}": ENTRY for n in range(1000)}))
    with pytest.raises(DatasetError, match="more than"):
        pull(f"file://{copy}", tmp_path / "home")


@pytest.mark.parametrize("id", ["toy/point/../..-v0", "../../etc/x-v0", "toy/point/a b-v0", "toy/../point-v0", "/a/b/c-v0"])
def test_an_id_that_leads_elsewhere_is_refused(copy: Path, tmp_path: Path, id: str) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["dataset_id"] = manifest["card"]["dataset_id"] = id
        made_of = ("format_version", "dataset_id", "env_spec", "content")
        manifest["fingerprint"] = digest_of([manifest["card"][name] for name in made_of])

    change_manifest(copy, change)
    with pytest.raises(UserError):
        pull(f"file://{copy}", tmp_path / "home")
    assert not (tmp_path / "home").exists()
    assert pull(f"file://{copy}", tmp_path / "home", name="toy/point/mine").folder == tmp_path / "home/toy/point/mine-v0"


# ---- other datasets in the way


def test_a_forced_pull_that_breaks_off_leaves_what_was_there(copy: Path, original: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    other = build([played(0, 30)], home / DATASET, card(quality={"label": "medium-replay"}))
    before = contents(other)
    shard = copy / SHARDS[1]
    content = shard.read_bytes()
    flip(shard, 1000)
    with pytest.raises(Damaged):
        pull(f"file://{copy}", home, force=True)
    assert contents(other) == before
    shard.write_bytes(content)
    again = pull(f"file://{copy}", home, force=True)
    assert again.bytes_skipped > 0, "what came before the break is not fetched again"
    assert_whole(other, original)
    assert [path.name for path in other.parent.iterdir()] == [other.name]


def test_another_dataset_is_replaced_by_force_alone(original: Path, copy: Path, tmp_path: Path, bucket: str) -> None:
    other = build(several(), tmp_path / "other" / DATASET, card())
    home = tmp_path / "home"
    folder = pull(f"file://{other}", home).folder
    before = contents(folder)
    with pytest.raises(UserError, match=r"holds another dataset .* --as, or replace that one with --force"):
        pull(f"file://{copy}", home)
    assert contents(folder) == before
    assert_whole(pull(f"file://{copy}", home, force=True).folder, original)
    assert pull(f"file://{other}", home, name="toy/point/other-v3").folder.name == "other-v3"
    assert [entry["fault"] for entry in list_datasets(home)] == [None, None]

    url = f"{bucket}/taken"
    push(copy, url)
    held = Remote(url).listing()
    with pytest.raises(UserError, match=f"{url} holds another dataset .*--force"):
        push(other, url)
    assert Remote(url).listing() == held
    push(other, url, force=True)
    assert_whole(pull(url, tmp_path / "new").folder, other)
    assert set(Remote(url).listing()) == set(contents(other)), "nothing of the old one is left"


def test_the_same_episodes_in_other_files_are_left(original: Path, copy: Path, tmp_path: Path) -> None:
    folder = pull(f"file://{original}", tmp_path / "home").folder
    change_manifest(copy, lambda manifest: manifest["card"].update(seed=77))
    done = pull(f"file://{copy}", tmp_path / "home")
    assert done.bytes_moved == 0 and contents(folder) == contents(original)
    flip(folder / "manifest.json", 20)
    with pytest.raises(UserError, match=r"a damaged manifest.*--force"):
        pull(f"file://{original}", tmp_path / "home")
    assert_whole(pull(f"file://{original}", tmp_path / "home", force=True).folder, original)


def test_a_folder_of_something_else_is_left_alone(original: Path, tmp_path: Path) -> None:
    mine = tmp_path / "home" / DATASET
    mine.mkdir(parents=True)
    (mine / "README.md").write_text("mine")
    with pytest.raises(UserError, match=r"not a dataset \(README.md\)"):
        pull(f"file://{original}", tmp_path / "home")
    with pytest.raises(UserError, match=r"not a dataset \(README.md\)"):
        push(original, f"file://{mine}")
    assert contents(mine) == {"README.md": b"mine"}


def test_the_remains_of_an_unfinished_build_do_not_stay(original: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(original, tmp_path / DATASET)
    (folder / "manifest.json").unlink()
    shutil.copy(folder / SHARDS[0], folder / "data.zarr/frames/image/c/0/0/0/9")
    (folder / "staging").mkdir()
    (folder / "staging/000000-3.npz").write_bytes(b"collected")
    done = pull(f"file://{original}", tmp_path)
    assert done.bytes_moved == 0 and contents(folder).pop("staging/000000-3.npz") == b"collected"
    assert verify(folder).ok


def test_a_damaged_dataset_is_not_pushed(copy: Path, tmp_path: Path) -> None:
    flip(copy / SHARDS[0], 50)
    with pytest.raises(DatasetError, match=r"c/0/0/0/0 is damaged"):
        push(copy, f"file://{tmp_path}/far")
    assert not (tmp_path / "far/manifest.json").exists()


# ---- what stores say


def test_a_fingerprint_that_was_asked_for(original: Path, tmp_path: Path) -> None:
    right = open_dataset(original).fingerprint
    with pytest.raises(DatasetError, match=f"has the fingerprint {right}, not {'0' * 64}"):
        pull(f"file://{original}", tmp_path, fingerprint="0" * 64)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="at least its first 8 digits"):
        pull(f"file://{original}", tmp_path, fingerprint=right[:7])
    assert pull(f"file://{original}", tmp_path, fingerprint=right[:8].upper()).bytes_moved


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://host/x", r"begins with one of s3://, gs://.* got ftp://"),
        ("://x", "begins with one of"),
        ("s3://", "names no folder"),
        ("s3://who:pass-word@bucket/x", "credentials do not belong into s3://bucket/x; set AWS_PROFILE"),
        ("https://host/x?token=pass-word", r"without \?.*https://host/x"),
        ("simplecache::s3://bucket/x", "begins with one of"),
        ("s3://bucket/x::file:///etc", "::"),
        ("http://pass-word@[host/x", "no URL"),
    ],
)
def test_a_url_that_cannot_be_one(url: str, says: str, tmp_path: Path, original: Path) -> None:
    for action in (lambda: pull(url, tmp_path), lambda: open_dataset(url, tmp_path), lambda: push(original, url)):
        with pytest.raises(UsageError, match=says) as caught:
            action()
        assert "pass-word" not in str(caught.value)


def said(*arguments: object, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of a verb that fails with exit code 3."""
    assert main([*map(str, arguments)]) == 3
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error


def test_stores_that_say_no(
    original: Path, tmp_path: Path, bucket: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(url: str) -> str:
        return said("data", "pull", url, "--data", tmp_path / "home", capsys=capsys)

    assert "there is no s3://no-such-bucket/x/manifest.json" in (told := asked("s3://no-such-bucket/x"))
    assert "bucket does not exist" in told
    assert f"there is no {bucket}/nothing/manifest.json" in asked(f"{bucket}/nothing")
    assert f"there is no file://{tmp_path}/nothing/manifest.json" in asked(f"file://{tmp_path}/nothing")
    told = said("data", "push", original, "s3://no-such-bucket/x", capsys=capsys)
    assert "there is no s3://no-such-bucket/x/" in told
    with serving(original, login="Basic " + base64.b64encode(b"who:pass-word").decode()) as server:
        right = server.url.replace("//", "//who:pass%2Dword@")
        assert f"there is no {server.url}/nothing/manifest.json" in asked(f"{right}/nothing")
        wrong = server.url.replace("//", "//who:pass-wrong@")
        assert f"no permission to read {server.url}/manifest.json (" in (told := asked(wrong))
        assert "403" in told and "pass-wrong" not in told
        assert main(["data", "pull", wrong, "--data", str(tmp_path / "home"), "--debug"]) == 3
        seen = capsys.readouterr().err
        assert "Traceback" in seen and "pass-wrong" not in seen
        assert pull(right, tmp_path / "home").url == server.url
        away = server.url
    assert f"cannot read {away}/manifest.json (" in asked(away)
    monkeypatch.setenv("AWS_ENDPOINT_URL", away)
    assert "cannot read s3://bucket/x/manifest.json (" in (told := asked("s3://bucket/x"))
    assert "the-secret" not in told
    with serving(original, login="none") as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        assert "no permission to read s3://bucket/x/manifest.json (" in (told := asked("s3://bucket/x"))
        assert "the-secret" not in told and "AWS_PROFILE" in told
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "no permission to read s3://bucket/x" in asked("s3://bucket/x")


def test_a_part_is_not_pushed(original: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a part of a dataset has no files of its own"):
        push(f"{original}@first=0.5", f"file://{tmp_path}/there")
    assert not (tmp_path / "there").exists()


def test_a_web_server_takes_no_push(original: Path) -> None:
    with pytest.raises(UsageError, match=r"http://host/x can only be read; push to s3://"):
        push(original, "http://host/x")


def test_a_package_that_is_missing_is_named() -> None:
    packages = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub", "http": "aiohttp", "https": "aiohttp"}
    for scheme in ("s3", "gs", "hf"):
        assert known_implementations[scheme]["class"].startswith(packages[scheme])
    code = (
        "import sys\nfrom coworld_bench.cli import main\n"
        f"sys.modules |= dict.fromkeys({list(packages.values())})\n"
        f"print([main(['data', 'pull', scheme + '://a/b']) for scheme in {list(packages)}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[4, 4, 4, 4, 4]\n"
    extras = {**{scheme: scheme for scheme in packages}, "https": "http"}
    assert done.stderr.splitlines() == [
        f'error: {package} is not installed; install it with: pip install "coworld-bench[{extras[scheme]}]"'
        for scheme, package in packages.items()
    ]


# ---- opened by URL


@pytest.mark.parametrize("store", ["http", "s3"])
def test_shards_come_when_they_are_first_needed(original: Path, tmp_path: Path, bucket: str, store: str) -> None:
    if store == "s3":
        push(original, f"{bucket}/opened")
    with serving(original) as server:
        dataset = open_dataset(server.url if store == "http" else f"{bucket}/opened", tmp_path)
        here = dataset.folder
        assert here.parent == tmp_path / "remote" and not (here / "manifest.json").exists()
        assert dataset.id == DATASET and dataset.rows == 4404 and dataset.bytes == size_of(original)
        assert not set(contents(here)) & set(SHARDS)
        np.testing.assert_array_equal(dataset.episode(0).image, open_dataset(original).episode(0).image)
        assert set(contents(here)) & set(SHARDS) == {SHARDS[0]}
        packed = BatchStream(dataset.load("packed"), 3, 16, 10)
        expected = BatchStream(open_dataset(original).load("ram"), 3, 16, 10)
        for k in range(10):
            np.testing.assert_array_equal(packed.at(k).image, expected.at(k).image)
        assert set(SHARDS) <= set(contents(here))
        sent = dict(server.sent)
        ram = BatchStream(open_dataset(dataset._remote.url, tmp_path).load("ram"), 3, 16, 10)
        np.testing.assert_array_equal(ram.at(4).image, expected.at(4).image)
        if store == "http":
            assert server.sent == sent | {"manifest.json": 2 * sent["manifest.json"]}, "all else was here"
        assert_whole(open_dataset(dataset._remote.url, tmp_path, verify="full").folder, original)
    assert open_dataset(here).load().rows == 4404, "and it needs no server any more"


def test_a_part_of_a_dataset_far_away_fetches_its_own_shards(original: Path, tmp_path: Path) -> None:
    part = open_dataset(f"file://{original}@episodes=0..2", tmp_path)
    expected = open_dataset(f"{original}@episodes=0..2")
    assert (part.episodes, part.fingerprint) == (2, expected.fingerprint)
    np.testing.assert_array_equal(part.episode(1).image, expected.episode(1).image)
    assert set(contents(part.folder)) & set(SHARDS) == set(SHARDS[:2])


def test_every_verb_takes_a_url(original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"file://{original}"
    assert main(["data", "show", url, "--data", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dataset"]["bytes"] == size_of(original)
    assert main(["data", "verify", url, "--data", str(tmp_path)]) == 0
    assert "it is what was built" in capsys.readouterr().out


def test_a_shard_that_is_damaged_far_away_is_never_used(copy: Path, tmp_path: Path) -> None:
    flip(copy / SHARDS[1], 1000)
    with serving(copy) as server:
        dataset = open_dataset(server.url, tmp_path / "home")
        dataset.episode(0)
        with pytest.raises(Damaged, match=f"{server.url}/{SHARDS[1]}"):
            dataset.episode(3)
        with pytest.raises(Damaged):
            open_dataset(server.url, tmp_path / "home").load("ram")
        with pytest.raises(Damaged):
            open_dataset(server.url, tmp_path / "home", verify="full")
    assert SHARDS[1] not in contents(dataset.folder)


def test_a_cached_shard_that_was_damaged_since_is_fetched_again(original: Path, tmp_path: Path) -> None:
    url = f"file://{original}"
    folder = open_dataset(url, tmp_path, verify="full").folder
    flip(folder / SHARDS[0], 1000)
    np.testing.assert_array_equal(open_dataset(url, tmp_path).episode(0).image, open_dataset(original).episode(0).image)
    assert_whole(folder, original)


def test_two_processes_that_open_one_dataset_fetch_each_file_once(original: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from coworld_bench import open_dataset\nprint(open_dataset(sys.argv[1], sys.argv[2]).load('ram').rows)"
    )
    met = Barrier(3)

    def together(name: str, start: int) -> None:
        if name == "manifest.json":
            met.wait(40)
        time.sleep(0.02)

    with serving(original) as server:
        server.before = together
        command = [sys.executable, "-c", code, server.url, str(tmp_path)]
        children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        assert [child.communicate()[0] for child in children] == ["4404\n"] * 3
        twice = {name for name, sent in server.sent.items() if sent > (original / name).stat().st_size}
    assert twice == {"manifest.json"}
    (folder,) = (tmp_path / "remote").iterdir()
    assert set(contents(original)) - set(contents(folder)) == {"manifest.json"}
    assert not list(folder.rglob("*.partial"))


# ---- the command line


def test_the_command_line_tells_what_was_moved(original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    far, home = f"file://{tmp_path}/far", str(tmp_path / "home")
    assert main(["data", "push", str(original), far]) == 0
    assert f"{DATASET}: {len(contents(original))} files, " in capsys.readouterr().out
    assert main(["data", "pull", far, "--data", home, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == len(contents(original)) - 1 and told["bytes_moved"] == size_of(original) > told["wall_s"] > 0
    assert main(["data", "pull", far, "--data", home]) == 0
    assert "nothing to fetch" in capsys.readouterr().out
    assert main(["data", "push", str(original), far]) == 0
    assert "nothing to send" in capsys.readouterr().out
    assert main(["data", "pull", far, "--data", home, "--as", "toy/point/mine"]) == 0
    captured = capsys.readouterr()
    assert "mine-v0" in captured.out and "100%" in captured.err
