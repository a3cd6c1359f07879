"""Files from anywhere: what is damaged, lies or would run something is refused in a sentence, and leaves nothing."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from made_episodes import card, played

from coworld_bench.data.build import build
from coworld_bench.data.converting import import_dataset
from coworld_bench.data.dataset import open_dataset
from coworld_bench.data.formats import FORMATS
from coworld_bench.errors import DatasetError

EPISODES = [played(0, 6), played(1, 5)]
NAME = "toy/point/medium-replay-smoke"
Break = Callable[[Path], Any]


class Trap:
    """Executed when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["TRAP"],)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export in every format."""
    home = tmp_path_factory.mktemp("exports")
    dataset = open_dataset(build(EPISODES, home / "dataset", card()))
    for name, format in FORMATS.items():
        format.export(dataset, home / name)
    return home


def npz(**changes: Any) -> Break:
    """The first file with other arrays; None takes one away."""

    def change(folder: Path) -> None:
        path = sorted(folder.glob("*.npz"))[0]
        with np.load(path) as file:
            arrays = {**file, **changes}
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None}, allow_pickle=True)

    return change


def member(name: str, content: bytes) -> Break:
    """The first file with one array more, or another one, of these bytes."""

    def change(folder: Path) -> None:
        path = sorted(folder.glob("*.npz"))[0]
        with zipfile.ZipFile(path) as archive:
            found = {entry: archive.read(entry) for entry in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, data in (found | {name: content}).items():
                archive.writestr(entry, data)

    return change


def npy(shape: tuple[int, ...], dtype: str = "<f4", data: bytes = b"") -> bytes:
    """An array file that claims a shape, whatever it holds."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"shape": shape, "fortran_order": False, "descr": dtype})
    return buffer.getvalue() + data


def renamed(name: str) -> Break:
    return lambda folder: sorted(folder.glob("*.npz"))[0].rename(folder / name)


def halved(path: str) -> Break:
    """The file of this name, or the first of this pattern, cut in the middle."""

    def change(folder: Path) -> None:
        found = sorted(folder.glob(path))[0]
        found.write_bytes(found.read_bytes()[: found.stat().st_size // 2])

    return change


def flipped(path: str, after: bytes) -> Break:
    """The file with one byte turned over, among those of a picture."""

    def change(folder: Path) -> None:
        found = sorted(folder.glob(path))[0]
        content = bytearray(found.read_bytes())
        content[content.index(after) + len(after) + 40] ^= 0xFF
        found.write_bytes(content)

    return change


def hdf5(**changes: Any) -> Break:
    """The file with other columns; None takes one away, a function makes one itself."""

    def change(folder: Path) -> None:
        with h5py.File(folder / "data.hdf5", "r+") as file:
            for name, value in changes.items():
                old = file[name][()] if name in file else None
                if name in file:
                    del file[name]
                if callable(value):
                    value(file, name, old)
                elif value is not None:
                    file[name] = value

    return change


def at(row: int, value: Any) -> Callable[..., None]:
    """The column with another value in one row."""

    def change(file: h5py.File, name: str, old: np.ndarray) -> None:
        changed = old.astype(np.result_type(old, np.asarray(value).dtype))
        changed[row] = value
        file[name] = changed

    return change


def cast(dtype: str) -> Callable[..., None]:
    def change(file: h5py.File, name: str, old: np.ndarray) -> None:
        file[name] = old.astype(dtype)

    return change


def shorter(file: h5py.File, name: str, old: np.ndarray) -> None:
    file[name] = old[:-1]


def external_link(file: h5py.File, name: str, old: np.ndarray) -> None:
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as other:
        other[name] = old
    file[name] = h5py.ExternalLink("other.h5", name)


def soft_link(file: h5py.File, name: str, old: np.ndarray) -> None:
    file["elsewhere"] = old
    file[name] = h5py.SoftLink("/elsewhere")


def external_storage(file: h5py.File, name: str, old: np.ndarray) -> None:
    place = Path(file.filename).with_name("passwords")
    place.write_bytes(old.tobytes())
    file.create_dataset(name, old.shape, old.dtype, external=[(str(place), 0, old.nbytes)])


def virtual(file: h5py.File, name: str, old: np.ndarray) -> None:
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as other:
        other[name] = old
    layout = h5py.VirtualLayout(old.shape, old.dtype)
    layout[:] = h5py.VirtualSource("other.h5", name, old.shape)
    file.create_virtual_dataset(name, layout)


def enormous(file: h5py.File, name: str, old: np.ndarray) -> None:
    file.create_dataset(name, (10**12, *old.shape[1:]), old.dtype, chunks=(1024, *old.shape[1:]))


def with_holes(file: h5py.File, name: str, old: np.ndarray) -> None:
    column = file.create_dataset(name, old.shape, old.dtype, chunks=(2, *old.shape[1:]))
    column[:4] = old[:4]


def in_words(file: h5py.File, name: str, old: np.ndarray) -> None:
    file[name] = [str(value) for value in old]


def infos_elsewhere(folder: Path) -> None:
    with h5py.File(folder / "data.hdf5", "r+") as file:
        file.move("infos", "moved")
        file["infos"] = h5py.SoftLink("/moved")


def info(**changes: Any) -> Break:
    def change(folder: Path) -> None:
        path = folder / "meta/info.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def feature(name: str, **changes: Any) -> Break:
    def change(folder: Path) -> None:
        path = folder / "meta/info.json"
        said = json.loads(path.read_text())
        said["features"][name] = said["features"].get(name, {}) | changes
        path.write_text(json.dumps(said))

    return change


def rows(change: Callable[[list[dict[str, Any]]], Any]) -> Break:
    """The rows of the data file, changed in place."""

    def rewrite(folder: Path) -> None:
        path = folder / "data/chunk-000/file-000.parquet"
        table = pyarrow.parquet.read_table(path)
        found = table.to_pylist()
        change(found)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(found, table.schema), path)

    return rewrite


def setting(row: int, name: str, value: Any) -> Break:
    return rows(lambda found: found[row].update({name: value}))


def picture(data: bytes | None) -> Break:
    return setting(2, "observation.image", {"bytes": data, "path": "../../../etc/passwd"})


def column_of(name: str, make: Callable[[int], Any]) -> Break:
    """The data file with another column of this name."""

    def change(folder: Path) -> None:
        path = folder / "data/chunk-000/file-000.parquet"
        table = pyarrow.parquet.read_table(path)
        place = table.column_names.index(name)
        pyarrow.parquet.write_table(table.set_column(place, name, make(table.num_rows)), path)

    return change


def drawn(format: str, size: int = 16, mode: str = "RGB") -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new(mode, (size, size)).save(buffer, format)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG file that claims 60,000 pixels a side."""
    data = bytearray(drawn("png"))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    return bytes(data)


def sidecar(**changes: Any) -> Break:
    def change(folder: Path) -> None:
        path = folder / "coworld.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def of_card(**changes: Any) -> Break:
    return sidecar(card=card() | changes)


def meta(**changes: Any) -> Break:
    return sidecar(episodes=[{"sha256": "", "meta": changes}] * 2)


def minari(change: Callable[[h5py.File], Any]) -> Break:
    def rewrite(folder: Path) -> None:
        with h5py.File(folder / "data/main_data.hdf5", "r+") as file:
            change(file)

    return rewrite


def described(**changes: Any) -> Break:
    def change(folder: Path) -> None:
        path = folder / "data/metadata.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def replaced(name: str, make: Callable[[np.ndarray], Any]) -> Break:
    def change(file: h5py.File) -> None:
        old = file[name][()]
        del file[name]
        file[name] = make(old)

    return minari(change)


FIRST = "0*-7.npz"
HUGE = np.full(7, 1e300)
NAN = np.array([0, 1, 2, np.nan, 4, 5, 6], np.float32)
MIDDLE = np.arange(7) == 3
IN_WORDS = np.array([str(value) for value in range(7)])
NPZ: list[tuple[Break, str]] = [
    (halved("*.npz"), "is damaged"),
    (flipped("*.npz", b"image.npy"), "is damaged"),
    (npz(reward=np.array([Trap()] * 7)), "only plain numbers are read"),
    (member("extra.npy", npy((1,), "|O", b"")), "only plain numbers are read"),
    (member("../../outside.npy", npy((7,), data=bytes(28))), "no plain name"),
    (member("/etc/cron.npy", npy((7,), data=bytes(28))), "no plain name"),
    (member("reward.npy", npy((10**12,))), "cannot hold"),
    (member("reward.npy", npy((7, 10**9), data=bytes(10**6))), "cannot hold"),
    (member("reward.npy", npy((7,), data=bytes(20))), "claims 28 bytes and has 20"),
    (member("reward.npy", npy((-7, -1), data=bytes(28))), "differ in their number of rows"),
    (member("reward.npy", b"(" * 5000), "is damaged"),
    (member("reward.npy", b"\x93NUMPY\x09\x00" + bytes(100)), "numpy's format"),
    (member("reward.npy", npy((7,), "<c8", bytes(56))), "only plain numbers"),
    (npz(reward=NAN), "reward holds values that are not finite"),
    (npz(reward=HUGE), "reward holds values that are not finite"),
    (npz(reward=IN_WORDS), "only plain numbers are read"),
    (npz(reward=np.arange(7)), "floating-point numbers are needed"),
    (npz(reward=None), "lacks reward"),
    (npz(image=None, state=None), "lacks image"),
    (npz(reward=np.zeros(6, np.float32)), "differ in their number of rows"),
    (npz(reward=np.float32(1)), "differ in their number of rows"),
    (npz(reward=np.zeros((7, 2), np.float32)), "1 axes and 7 rows are needed"),
    (npz(action=np.full((7, 2), 3, np.float32)), r"leave \[-1, 1\]: the largest is 3"),
    (npz(action=np.ones((7, 2), np.float32)), "row 0 of an episode has an action"),
    (npz(image=np.zeros((7, 16, 16, 3), np.float32)), "pictures must be uint8"),
    (npz(image=np.zeros((7, 16, 20, 3), np.uint8)), "pictures must be square"),
    (npz(image=np.zeros((7, 8, 8, 3), np.uint8)), "of 16 pixels a side or more"),
    (npz(success=np.full(7, 7)), "must be 7 values of 0 and 1"),
    (npz(is_first=MIDDLE), "is_first is set inside"),
    (npz(is_last=MIDDLE), "is_last is set inside"),
    (npz(is_last=np.zeros(7, bool)), "not an episode from its first row to its last"),
    (npz(is_terminal=MIDDLE), "is_terminal is set inside"),
    (npz(is_terminal=np.arange(7) == 6), "is_terminal and discount do not agree"),
    (npz(discount=np.full(7, 0.99)), "discount must be 7 values of 0 and 1"),
    (renamed("0-episode-6000.npz"), "should end in -7.npz"),
    (renamed("0-episode.npz"), "should end in -7.npz"),
]
FLAT: list[tuple[Break, str]] = [
    (halved("data.hdf5"), "is damaged"),
    (hdf5(rewards=None, reward=None), "it has no reward"),
    (lambda folder: (folder / "data.hdf5").write_bytes(b"\x80\x04." * 900), "is damaged"),
    (lambda folder: (folder / "data.hdf5").unlink(), "there are no hdf5 files"),
]
VD4RL84: list[tuple[Break, str]] = [
    *FLAT,
    (hdf5(reward=external_link), "reward is a link to another place"),
    (hdf5(reward=soft_link), "reward is a link to another place"),
    (hdf5(reward=external_storage), "reward lies in another file"),
    (hdf5(reward=virtual), "reward lies in another file"),
    (hdf5(reward=enormous), "cannot hold"),
    (hdf5(reward=with_holes), "was not written whole"),
    (hdf5(reward=in_words), "only plain numbers are read"),
    (hdf5(reward=shorter), "differ in their number of rows"),
    (hdf5(reward=at(3, np.nan)), "not finite"),
    (hdf5(reward=cast("i8")), "floating-point numbers are needed"),
    (hdf5(reward=lambda file, name, old: file.create_group(name)), "reward is no array"),
    (hdf5(observation=cast("f4")), "observation must be uint8"),
    (hdf5(step_type=at(3, 7)), "other values than 0, 1 and 2"),
    (hdf5(step_type=at(3, 0)), "does not end where an episode does"),
    (hdf5(step_type=at(-1, 1)), "does not end where an episode does"),
    (
        hdf5(step_type=lambda file, name, old: file.__setitem__(name, np.array([0, 0, 1, 2, 2, 1, 1, *old[7:]]))),
        "does not begin",
    ),
    (hdf5(discount=at(3, 0)), "a discount is 0 inside"),
]
D4RL: list[tuple[Break, str]] = [
    *FLAT,
    (hdf5(rewards=external_link), "rewards is a link"),
    (hdf5(rewards=virtual), "rewards lies in another file"),
    (hdf5(rewards=enormous), "cannot hold"),
    (hdf5(rewards=at(2, np.inf)), "not finite"),
    (hdf5(rewards=shorter), "differ in their number of rows"),
    (hdf5(timeouts=None), "it has no timeouts"),
    (hdf5(timeouts=at(2, 0.5)), "timeouts must be 11 values of 0 and 1"),
    (hdf5(next_observations=at(2, 9)), "is not what followed the row before"),
    (hdf5(observations=cast("f8")), "do not fit"),
    (infos_elsewhere, "infos is a link to another place"),
]
LEROBOT: list[tuple[Break, str]] = [
    (halved("data/*/*.parquet"), "is damaged"),
    (flipped("data/*/*.parquet", b"IHDR"), "is damaged"),
    (halved("meta/info.json"), "is no JSON file"),
    (halved("coworld_last.parquet"), "is damaged"),
    (info(codebase_version="v2.1"), "LeRobot's version 'v2.1'"),
    (info(data_path="../../{chunk_index}/../etc/passwd"), "they should be at data/"),
    (info(data_path="{chunk_index.__class__}"), "they should be at data/"),
    (info(features=[]), "describes no features"),
    (info(total_frames=10**12), "says 1000000000000"),
    (info(total_episodes=9), "what was seen last in each of 9 episodes"),
    (info(total_episodes="2"), "it counts '2' episodes"),
    (feature("observation.image", dtype="video"), "as video, which is lossy"),
    (feature("wrist", dtype="image", shape=[16, 16, 3]), "it has 2 cameras"),
    (feature("action", shape=[10**12]), "should be a vector"),
    (feature("action", shape=[5]), "is damaged"),
    (picture(drawn("jpeg")), "no PNG file"),
    (picture(drawn("gif")), "no PNG file"),
    (picture(None), "no PNG file"),
    (picture(bomb()), "cannot hold|damaged"),
    (picture(drawn("png")[:45]), "a picture is damaged"),
    (picture(drawn("png", 20)), "differ in size or kind"),
    (picture(drawn("png", mode="L")), "differ in size or kind"),
    (setting(3, "next.reward", float("nan")), "not finite"),
    (setting(3, "next.reward", None), "rows without a value"),
    (setting(3, "next.done", True), "ends before its last row"),
    (setting(3, "episode_index", 1), "not all of it in their order"),
    (setting(3, "frame_index", 0), "not all of it in their order"),
    (rows(lambda found: found.pop()), "have 10 rows, and"),
    (column_of("next.reward", lambda count: pyarrow.array(["1"] * count)), "only plain numbers"),
    (column_of("observation.image", lambda count: pyarrow.array(["a.png"] * count)), "should hold the bytes of pictures"),
]
SIDECAR: list[tuple[Break, str]] = [
    (halved("coworld.json"), "is no JSON file"),
    (lambda folder: (folder / "coworld.json").write_text("[" * 100_000), "is no JSON file"),
    (lambda folder: (folder / "coworld.json").write_text("[]"), "no JSON object"),
    (sidecar(format="d4rl"), "it was exported to 'd4rl'"),
    (sidecar(episodes=[]), "episode 0 is not what was exported"),
    (sidecar(episodes="all"), "it lists no episodes"),
    (sidecar(card=None), "its card is damaged"),
    (of_card(env_spec={"task": "toy/point", "__class__": "os.system"}), "names no environment or dataset of ours"),
    (of_card(env_spec={"task": "elsewhere/point"}), "names no environment or dataset of ours"),
    (of_card(quality={"reference": "high"}), "its card is damaged .quality.reference"),
    (of_card(license=7), "its card is damaged .license"),
    (of_card(provenance={"imported": "from nowhere"}), "its card is damaged .provenance.imported"),
    (of_card(dataset_id="toy/point/../../../tmp/outside"), "a dataset is named suite/task/quality, as in"),
    (of_card(dataset_id="toy/point/.."), "names no environment or dataset"),
    (of_card(dataset_id="metaworld/../medium"), "names no environment or dataset"),
    (meta(seed=-1), "seed of an episode is -1"),
    (meta(seed=2**64), "seed of an episode"),
    (meta(noise="much"), "noise of an episode"),
    (meta(policy=7), "policy of an episode"),
]
MINARI: list[tuple[Break, str]] = [
    (halved("data/main_data.hdf5"), "is damaged"),
    (halved("data/metadata.json"), "is no JSON file"),
    (described(jpeg_encoding=True), "keeps its pictures as lossy JPEG"),
    (described(total_episodes=10**12), "has no episode_2"),
    (described(total_episodes="2"), "it counts '2' episodes"),
    (described(observation_space="["), "observation_space is no JSON"),
    (described(coworld_card="[]"), "coworld_card is no JSON object"),
    (described(coworld_card=json.dumps(card() | {"dataset_id": "toy/point/../.."})), "names no environment or dataset"),
    (replaced("episode_0/rewards", lambda old: np.full(6, np.nan, np.float32)), "not finite"),
    (replaced("episode_0/rewards", lambda old: old[:-1]), "must be 5 values"),
    (replaced("episode_0/rewards", lambda old: h5py.ExternalLink("other.h5", "rewards")), "is a link"),
    (replaced("episode_0/observations/image", lambda old: h5py.SoftLink("/episode_1/observations/image")), "is a link"),
    (replaced("episode_0/observations/image", lambda old: old.astype(np.float32)), "pictures must be uint8"),
    (replaced("episode_0/terminations", lambda old: np.arange(6) == 2), "goes on after"),
    (minari(lambda file: file["episode_0"].attrs.__setitem__("coworld_meta", "{")), "is damaged"),
    (minari(lambda file: file["episode_0"].attrs.__setitem__("coworld_meta", '{"seed": "one"}')), "seed of an episode"),
]
WITHOUT = {"npz": NPZ, "vd4rl84": VD4RL84, "d4rl": D4RL, "lerobot": LEROBOT, "minari": MINARI}
CASES = [(name, False, break_, says) for name, cases in WITHOUT.items() for break_, says in cases]
CASES += [(name, True, break_, says) for name in ("npz", "lerobot") for break_, says in SIDECAR]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("name", "ours", "break_", "says"), CASES)
def test_hostile_files_are_refused(
    name: str, ours: bool, break_: Break, says: str, exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    folder = tmp_path / "files"
    found = (
        exports / name if name != "minari" else exports / "minari" / "coworld" / "toy" / "point" / "medium-replay-smoke-v0"
    )
    shutil.copytree(found, folder)
    if not ours and name != "minari":
        (folder / "coworld.json").unlink()
    break_(folder)
    before = everything(tmp_path)
    with pytest.raises(DatasetError, match=says) as caught:
        import_dataset(folder, name, None if ours or name == "minari" else NAME, data=tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()
    assert everything(tmp_path) == before


def test_a_pickle_is_not_opened_by_the_trap_that_would_show_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap of the tests above works where pickles are allowed."""
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    np.savez(tmp_path / "a.npz", reward=np.array([Trap()]))
    with np.load(tmp_path / "a.npz", allow_pickle=True) as file:
        file["reward"]
    assert (tmp_path / "sprung").is_dir()


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_no_dataset(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(DatasetError):
            import_dataset(place, name, NAME, data=tmp_path / "data")
