"""`data convert` and `collect --format`: both ways on the command line, and every mistake in a sentence before any work."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from made_episodes import DATASET, assert_same, card, several

from coworld_bench.cli import main
from coworld_bench.data.build import build
from coworld_bench.data.dataset import open_dataset
from coworld_bench.data.formats import FORMATS
from coworld_bench.errors import DATASET as DATASET_CODE
from coworld_bench.errors import NOT_USABLE, OK, SOME_FAILED, USAGE

EPISODES = several()
STEM = DATASET.removesuffix("-v0")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("COWORLD_BENCH_DATA", str(home))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    build(EPISODES, home / DATASET, card())
    return home


def run(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(command.split())
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.mark.parametrize("name", FORMATS)
def test_there_and_back_on_the_command_line(
    name: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(f"data convert {STEM} --to {name} --out {tmp_path / 'out'} --json", capsys)
    document = json.loads(said)
    assert code == OK and document["format"] == name and Path(document["folder"]).is_dir()
    code, said = run(f"data convert {document['folder']} --from {name} --data {tmp_path / 'other'}", capsys)
    found = open_dataset(said.splitlines()[-1])
    assert code == OK and found.episodes == len(EPISODES) and said.startswith(f"{found.id}: 4 episodes")
    if name != "vd4rl84":
        assert found.id == DATASET and found.fingerprint == open_dataset(home / DATASET).fingerprint
        assert_same(found.episode(3), EPISODES[3])


def test_a_name_and_options_for_files_that_say_nothing(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"data convert {STEM} --to npz --out {tmp_path / 'out'}", capsys)[0] == OK
    (tmp_path / "out/coworld.json").unlink()
    command = f"data convert {tmp_path / 'out'} --from npz --data {tmp_path / 'other'}"
    told = f"{command} --name toy/point/medium-expert-quick -o env.action_repeat=5 --json"
    code, said = run(told, capsys)
    assert code == OK and json.loads(said)["dataset_id"] == "toy/point/medium-expert-quick__repeat5_16px-v0"
    assert open_dataset(json.loads(said)["folder"]).env_spec.action_repeat == 5
    assert "imported from  " in run(f"data show {json.loads(said)['folder']}", capsys)[1]
    code, said = run(told, capsys)
    assert code == SOME_FAILED and "holds a complete dataset already" in said
    assert run(f"{told} --force", capsys)[0] == OK
    for wrong, says in [
        ("--name toy/pint/medium-expert", "did you mean toy/point"),
        ("--name toy/point", "a dataset is named suite/task/quality"),
        ("--name toy/point/../../etc", "a dataset is named suite/task/quality"),
        ("--name toy/point/..", "a dataset is named suite/task/quality"),
        ("--name toy/point/expert__84px", "leave the variant out of toy/point/expert__84px"),
        ("--name toy/point/expert -o env.action_repeet=5", "did you mean env.action_repeat"),
        ("--name toy/point/expert -o model.deter=5", "no setting of an environment 'model.deter'"),
        ("--name toy/point/expert -o env.action_repeat=3", "action_repeat must divide"),
    ]:
        code, said = run(f"{command} {wrong}", capsys)
        assert (code, "\n" not in said.strip()) == (USAGE, True) and says in said, said


def test_a_part_comes_back_under_a_name_of_its_own(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"data convert {STEM}@episodes=1..3 --to npz --out {tmp_path / 'out'}", capsys)[0] == OK
    code, said = run(f"data convert {tmp_path / 'out'} --from npz", capsys)
    assert code == USAGE and f"a part of {DATASET} (episodes=1..3); say with --name" in said
    code, said = run(f"data convert {tmp_path / 'out'} --from npz --name toy/point/some-smoke", capsys)
    found = open_dataset("toy/point/some-smoke__16px")
    assert code == OK and found.episodes == 2 and found.card["part_of"]["rule"] == "episodes=1..3"
    assert found.subset("first=0.5").episodes == 1
    assert_same(found.episode(1), EPISODES[2])


def test_a_minari_export_is_found_below_the_folder_it_was_given(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"data convert {STEM} --to minari --out {tmp_path / 'out'}", capsys)[0] == OK
    code, _ = run(f"data convert {tmp_path / 'out'} --from minari --data {tmp_path / 'other'}", capsys)
    assert code == OK and open_dataset(STEM, tmp_path / "other").fingerprint == open_dataset(STEM).fingerprint


def test_files_that_say_what_they_are_cannot_be_called_another_task(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"data convert {STEM} --to npz --out {tmp_path / 'out'}", capsys)[0] == OK
    command = f"data convert {tmp_path / 'out'} --from npz --data {tmp_path / 'other'} --name"
    code, said = run(f"{command} toy/point_mirrored/expert", capsys)
    assert code == USAGE and "these files are of toy/point, so they cannot be called" in said
    code, said = run(f"{command} toy/point/mine-smoke --json", capsys)
    made = open_dataset(json.loads(said)["folder"])
    assert made.id == "toy/point/mine-smoke__16px-v0" and made.card["quality"]["threshold"] == 3.0
    assert_same(made.episode(0), EPISODES[0])


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("data convert", USAGE, "DATASET|PATH"),
        (f"data convert {STEM}", USAGE, "say what to do: --to FORMAT writes a dataset"),
        (f"data convert {STEM} --to npz --from npz", USAGE, "say what to do"),
        (f"data convert {STEM} --to npy --out x", USAGE, "no format 'npy'; did you mean npz"),
        (f"data convert {STEM} --from lerobt", USAGE, "no format 'lerobt'; did you mean lerobot"),
        (f"data convert {STEM} --to hdf5 --out x", USAGE, "no format 'hdf5'; known: d4rl, lerobot, minari, npz, vd4rl84"),
        (f"data convert {STEM} --to npz", USAGE, "the format npz has no place of its own; say where with --out DIR"),
        (f"data convert {STEM} --to npz --out x --name toy/point/expert", USAGE, "they go with --from"),
        (f"data convert {STEM} --to npz --out x -o env.profile=exact", USAGE, "they go with --from"),
        ("data convert toy/point/expert --to npz --out x", DATASET_CODE, "coworld-bench collect toy/point"),
        ("data convert nowhere --from npz --name toy/point/expert", DATASET_CODE, "there are no npz files in it"),
        ("data convert nowhere --from minari", DATASET_CODE, "no Minari dataset nowhere"),
        ("data convrt", USAGE, "convert"),
        ("collect toy/point --preset smoke --format lerobt", USAGE, "no format 'lerobt'; did you mean lerobot"),
        ("collect toy/point --preset smoke --format npz", USAGE, "the format npz has no place of its own"),
    ],
)
def test_mistakes_are_told_before_any_work(
    command: str, code: int, says: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    found, said = run(command, capsys)
    assert found == code and says in said, said
    assert not (tmp_path / "x").exists()


def test_an_export_of_another_dataset_needs_force(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(EPISODES[:1], home / "toy/point/expert-v0", card(dataset_id="toy/point/expert-v0"))
    out = tmp_path / "out"
    assert run(f"data convert {STEM} --to d4rl --out {out}", capsys)[0] == OK
    code, said = run(f"data convert toy/point/expert --to d4rl --out {out}", capsys)
    assert code == USAGE and "choose another --out, or give --force" in said
    assert run(f"data convert toy/point/expert --to d4rl --out {out} --force", capsys)[0] == OK
    assert len(json.loads((out / "coworld.json").read_text())["episodes"]) == 1


@pytest.mark.parametrize("name", ["npz", "minari"])
def test_a_collection_is_exported_by_the_same_table(
    name: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The dataset is finished, so that nothing is collected."""
    where = "" if name == "minari" else f"--out {tmp_path / 'out'}"
    code, said = run(f"collect toy/point --preset smoke --format {name} {where} --json", capsys)
    folder = Path(json.loads(said)["folder"])
    assert code == OK and folder == tmp_path / ("minari/coworld/" + DATASET if name == "minari" else "out")
    assert len(list(folder.glob("*.npz" if name == "npz" else "data/main_data.hdf5"))) == (4 if name == "npz" else 1)


def test_lerobot_without_pyarrow_says_what_to_install(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = builtins.__import__

    def lacking(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return genuine(name, *rest)

    for module in [module for module in sys.modules if module.startswith("pyarrow")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", lacking)
    for direction in (f"{STEM} --to lerobot --out {tmp_path / 'out'}", f"{tmp_path} --from lerobot"):
        code, said = run(f"data convert {direction}", capsys)
        assert code == NOT_USABLE and 'pip install "coworld-bench[lerobot]"' in said
