"""Parts of a dataset: chosen by rule, named, loaded by every backend, and told apart in every run."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_episodes import assert_same, card, played

from coworld_bench.api import evaluate
from coworld_bench.bench.jobs import Place, collect_job
from coworld_bench.cli import main
from coworld_bench.collecting import collect
from coworld_bench.data.build import build
from coworld_bench.data.chunks import ImageReader
from coworld_bench.data.dataset import Dataset, open_dataset
from coworld_bench.data.layout import dataset_folder, dataset_id
from coworld_bench.data.memory import BatchStream, EpisodeMemory
from coworld_bench.data.preview import Pictures
from coworld_bench.data.stats import statistics
from coworld_bench.data.subsets import Rule, definitions, give_names, named_rules, split_by
from coworld_bench.errors import DatasetError, UsageError
from coworld_bench.run_spec import RunSpec
from coworld_bench.training import train

ID = "toy/point/medium-replay-smoke"
LENGTHS = [14, 9, 30, 12, 50, 16, 8]  # env steps; returns differ, and episodes 1, 3 and 5 succeed
NOISE = [0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.1]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("home")
    episodes = [
        played(number, env_steps, noise=noise, extra=f"of {number}")
        for number, (env_steps, noise) in enumerate(zip(LENGTHS, NOISE, strict=True))
    ]
    quality = {"label": "medium-replay", "rule": "a third of the reference", "fired": True}
    build(episodes, path / f"{ID}-v0", card(quality=quality))
    return path


@pytest.fixture
def dataset(home: Path) -> Dataset:
    definitions(home / f"{ID}-v0").unlink(missing_ok=True)
    return open_dataset(ID, home)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a dataset that runs can learn from."""
    path = tmp_path_factory.mktemp("data")
    collect("toy/point", preset="smoke", data=path, options={"online.prefill": "100", "online.train_every": "25"})
    return path


@pytest.mark.parametrize(
    ("rule", "numbers"),
    [
        ("first=0.5", [0, 1, 2, 3]),  # 3.5 episodes, rounded up
        ("first=1", [0, 1, 2, 3, 4, 5, 6]),
        ("first=0.01", [0]),
        ("success=1", [1, 3, 5]),
        ("success=0", [0, 2, 4, 6]),
        ("step=20..60", [1, 2]),  # policy steps are 20 a number
        ("step=60..", [3, 4, 5, 6]),
        ("noise=0.1", [1, 2, 6]),
        ("noise=0.1..0.3", [1, 2, 3, 4, 6]),
        ("episodes=0+3..5", [0, 3, 4]),
        ("first=0.75,success=1,noise=..0.2", [1]),
    ],
)
def test_a_rule_chooses_what_it_says(dataset: Dataset, rule: str, numbers: list[int]) -> None:
    part = dataset.subset(rule)
    assert part.numbers.tolist() == numbers and part.episodes == len(numbers)
    for index, number in enumerate(numbers):
        assert_same(part.episode(index), dataset.episode(number))
    np.testing.assert_array_equal(part.returns, dataset.returns[numbers])
    assert part.card["episodes"] == len(numbers) and part.card["returns"]["max"] == max(dataset.returns[numbers])
    assert part.decoded_bytes < dataset.decoded_bytes or len(numbers) == 7


def test_returns_are_taken_by_rank(dataset: Dataset) -> None:
    order = np.argsort(dataset.returns)
    assert set(dataset.subset("return=0.5..1").numbers) == set(order[4:])  # of 7: ranks from 3.5, rounded up
    assert set(dataset.subset("return=..0.3").numbers) == set(order[:2])
    for count in range(2, 8):
        parts = [dataset.subset(rule).numbers for rule in split_by(dataset, f"return={count}").values()]
        assert sorted(np.concatenate(parts).tolist()) == list(range(7))
        tops = [dataset.returns[part].max() for part in parts]
        assert tops == sorted(tops) and max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("by", ["holdout=0.3", "success", "noise", "return=3"])
def test_a_split_has_every_episode_once(dataset: Dataset, by: str) -> None:
    for seed in range(5):
        parts = [dataset.subset(rule).numbers.tolist() for rule in split_by(dataset, by, seed).values()]
        assert sorted(itertools.chain(*parts)) == list(range(7)) and len(parts) >= 2


def test_a_split_is_the_seeds(dataset: Dataset) -> None:
    def validation(seed: int) -> tuple[int, ...]:
        return tuple(dataset.subset(split_by(dataset, "holdout=0.3", seed)["validation"]).numbers.tolist())

    assert all(len(validation(seed)) == 2 for seed in range(20))
    assert validation(3) == validation(3) and len({validation(seed) for seed in range(20)}) > 5
    assert {number for seed in range(40) for number in validation(seed)} == set(range(7))


def test_a_rule_is_written_in_one_way() -> None:
    for given, canonical in [
        ("success=1,first=0.50", "first=0.5,success=1"),
        ("step=0..1e3", "step=0..1000"),
        ("return=..0.5", "return=0..0.5"),
        ("episodes=9+3+1..3+2", "episodes=1..4+9"),
        ("part=validation", "part=validation,holdout=0.1,seed=0"),
        ("noise=0", "noise=0"),
    ]:
        assert str(Rule.parse(given)) == canonical == str(Rule.parse(canonical))
        assert Rule.parse(given) == Rule.parse(canonical)
    assert str(Rule(step=(0, 1000), episodes=(4, 2, 2))) == "step=0..1000,episodes=2+4"


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("frist=0.5", "no condition of a subset 'frist'; did you mean first"),
        ("first=2", "above 0 and at most 1; got 2"),
        ("first", "written key=value"),
        ("first=0.5,first=0.2", "each once"),
        ("return=0.5", "written as in return=0.9..1; got 'return=0.5'"),
        ("return=0.9..0.1", "got 'return=0.9..0.1'"),
        ("return=0..2", "within 0..1"),
        ("success=yes", "success=1 or success=0"),
        ("noise=nan", "got 'noise=nan'"),
        ("episodes=3..1", "written as in episodes=0"),
        ("episodes=7", "episodes 0 to 6; got 7"),
        ("part=test", "part=train or part=validation"),
        ("seed=3", "say which side"),
        ("part=train,seed=-1", "seed=0; got 'seed=-1'"),
        ("step=1000..", "none of the 7 episodes of .* meets 'step=1000..'"),
    ],
)
def test_what_cannot_be_is_a_sentence(dataset: Dataset, rule: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        dataset.subset(rule)
    with pytest.raises(UsageError, match="a subset already"):
        dataset.subset("first=0.5").subset("first=0.5")
    with pytest.raises(UsageError, match="needs a condition"):
        Rule()


@pytest.mark.parametrize("backend", ["ram", "packed", "shared"])
def test_every_backend_reads_the_chosen_episodes_alone(
    home: Path, dataset: Dataset, backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COWORLD_BENCH_CACHE", str(tmp_path))
    part = dataset.subset("success=1")
    starts, read = {int(start): number for number, start in enumerate(dataset._table["start"])}, set()
    fill = ImageReader._fill

    def noting(self: ImageReader, rows: np.ndarray, start: int, whole: np.ndarray) -> None:
        read.add(starts[max(first for first in starts if first <= start)])
        fill(self, rows, start, whole)

    monkeypatch.setattr(ImageReader, "_fill", noting)
    memory = part.load(backend)
    same = BatchStream(EpisodeMemory().extend(played(number, LENGTHS[number]) for number in (1, 3, 5)), 4, 5, 8)
    for k in range(20):
        given, expected = BatchStream(memory, 4, 5, 8).at(k), same.at(k)
        np.testing.assert_array_equal(given.image, expected.image)
        np.testing.assert_array_equal(given.action, expected.action)
    assert read == {1, 3, 5} and memory.episodes == 3


def test_what_is_shown_of_a_part_is_of_its_episodes(dataset: Dataset) -> None:
    part = dataset.subset("success=1")
    columns, whole = part.columns(), dataset.columns()
    rows = np.isin(whole["state"][:, 0], [1, 3, 5])
    for name, array in columns.items():
        np.testing.assert_array_equal(array, whole[name][rows], err_msg=name)
    pictures, told = Pictures(part.folder, part.numbers), statistics(part)
    np.testing.assert_array_equal(pictures.of(1), dataset.episode(3).image)
    assert pictures.label(1).startswith("episode 3")
    assert told["pictures"]["bytes a picture"] == statistics(dataset)["pictures"]["bytes a picture"]


def test_a_subset_has_a_fingerprint_of_its_own(dataset: Dataset) -> None:
    rules = ["first=0.5", "first=0.6", "success=1", "first=1"]
    found = [dataset.fingerprint, *(dataset.subset(rule).fingerprint for rule in rules)]
    assert len(set(found)) == 5
    assert dataset.subset("success=1,first=0.5").fingerprint == dataset.subset("first=0.5,success=1").fingerprint
    assert dataset.subset("first=0.5").id == f"{ID}-v0@first=0.5"


def test_the_name_of_a_dataset_may_say_which_episodes(home: Path, dataset: Dataset) -> None:
    for name in (f"{ID}@success=1", f"{ID}-v0@success=1", str(dataset.folder) + "@success=1"):
        assert open_dataset(name, home).numbers.tolist() == [1, 3, 5]
    assert dataset_id("toy/point", "medium-replay@first=0.5", "smoke") == f"{ID}-v0@first=0.5"
    assert dataset_folder(home, f"{ID}-v0@first=0.5") == dataset.folder
    with pytest.raises(UsageError, match=r"no condition of a subset 'frist'"):
        open_dataset(f"{ID}@frist=1", home)
    with pytest.raises(DatasetError, match=r"no dataset .*make it with: coworld-bench collect toy/point --quality other"):
        open_dataset("toy/point/other-smoke@first=0.5", home)


def test_names_are_kept_beside_the_dataset_and_for_it_alone(home: Path, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no subset 'half', .*split .* --where RULE --name half"):
        open_dataset(f"{ID}@half", home)
    path = give_names(dataset, {"half": Rule(first=0.5), "won": Rule(success=True)})
    assert path.parent == dataset.folder.parent and path.stat().st_size < 500
    assert open_dataset(f"{ID}@half", home).fingerprint == dataset.subset("first=0.5").fingerprint
    assert open_dataset(f"{ID}@half", home).id == f"{ID}-v0@first=0.5"
    assert named_rules(dataset) == {"half": "first=0.5", "won": "success=1"}
    with pytest.raises(UsageError, match=r"no subset .*'haf'; did you mean half"):
        open_dataset(f"{ID}@haf", home)
    give_names(dataset, {"half": Rule(first=0.5)})
    with pytest.raises(UsageError, match=r"'half' is the name of first=0.5 already"):
        give_names(dataset, {"half": Rule(first=0.4)})
    give_names(dataset, {"half": Rule(first=0.4)}, force=True)
    assert open_dataset(f"{ID}@half", home).numbers.tolist() == [0, 1, 2]
    with pytest.raises(UsageError, match="letters, digits"):
        give_names(dataset, {"a=b": Rule(first=0.4)})
    other = build([played(0, 20), played(1, 20)], tmp_path / f"{ID}-v0", card())
    definitions(other).write_text(path.read_text())
    with pytest.raises(DatasetError, match="was defined for other episodes"):
        open_dataset(f"{ID}@half", tmp_path)
    definitions(other).write_text("[]")
    with pytest.raises(DatasetError, match="cannot be read"):
        open_dataset(f"{ID}@half", tmp_path)


def test_split_names_parts_and_tells_what_they_have(
    home: Path, dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "split", ID, "--by", "holdout=0.3", "--seed", "3", "--data", str(home), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [part["id"] for part in said["parts"]] == [f"{ID}-v0@train", f"{ID}-v0@validation"]
    for part in said["parts"]:
        opened = open_dataset(part["id"], home)
        assert opened.numbers.tolist() == part["numbers"] and opened.fingerprint == part["fingerprint"]
    assert main(["data", "split", ID, "--where", "success=1", "--name", "won", "--data", str(home)]) == 0
    text = capsys.readouterr().out
    assert "won: 1+3+5" in text and f"open as {ID}-v0@won" in text
    assert main(["data", "split", ID, "--where", "success=0", "--data", str(home)]) == 0
    assert f"open as {ID}-v0@success=0" in capsys.readouterr().out
    assert set(named_rules(dataset)) == {"train", "validation", "won"}
    assert main(["data", "split", ID, "--by", "success", "--name", "mine", "--data", str(home)]) == 0
    assert {"mine-success", "mine-failure"} <= set(named_rules(dataset))
    capsys.readouterr()
    assert main(["data", "show", f"{ID}@won", "--data", str(home)]) == 0
    shown = capsys.readouterr().out
    assert ["episodes", "3"] in [line.split() for line in shown.splitlines()]
    for wrong in (["--by", "luck"], [], ["--by", "success", "--where", "success=1"], ["--by", "return=1"]):
        assert main(["data", "split", ID, *wrong, "--data", str(home)]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


# Runs


def test_runs_on_parts_are_runs_of_their_own(data: Path, tmp_path: Path) -> None:
    spec = RunSpec("offline_dv2", "toy/point", preset="smoke")
    whole, half = (replace(spec, quality=quality).resolve(data) for quality in ("medium-replay", "medium-replay@first=0.5"))
    assert half.dataset.episodes == -(-whole.dataset.episodes // 2)
    assert half.id != whole.id and half.config["quality"] == "medium-replay@first=0.5"
    give_names(whole.dataset, {"half": Rule(first=0.5)})
    assert replace(spec, quality="medium-replay@half").resolve(data).id == half.id
    with pytest.raises(UsageError, match="condition of a subset"):
        replace(spec, quality="medium-replay@frist=0.5").plan()
    result = train(replace(spec, quality="medium-replay@half"), data=data, runs=tmp_path)
    assert result["dataset"]["id"] == "toy/point/medium-replay-smoke-v0@first=0.5"
    assert (result["dataset"]["fingerprint"], result["dataset"]["episodes"]) == (
        half.dataset.fingerprint,
        half.dataset.episodes,
    )
    again = evaluate(tmp_path / half.id, episodes=1, data=data)
    assert again["run"] == half.id


def test_a_run_refuses_to_go_on_with_other_episodes(data: Path, tmp_path: Path) -> None:
    """Of those under one name: while it is unfinished, and when it is to be evaluated."""

    class Stopped(Exception):
        pass

    def stop(_: dict[str, Any]) -> None:
        raise Stopped

    home, spec = tmp_path / "data", RunSpec("offline_dv2", "toy/point", preset="smoke")
    shutil.copytree(data, home)
    finished = train(spec, data=home, runs=tmp_path / "finished")
    with pytest.raises(Stopped):
        train(spec, data=home, runs=tmp_path / "runs", observe=stop)
    dataset = open_dataset(ID, home)
    episodes, described = list(dataset), dataset.card
    shutil.rmtree(dataset.folder)
    build(episodes[:-1], dataset.folder, described)
    now = open_dataset(ID, home).fingerprint
    then = dataset.fingerprint[:10]
    with pytest.raises(DatasetError, match=rf"was begun on .* {then}, which is {now[:10]} now; .*--force"):
        train(spec, data=home, runs=tmp_path / "runs")
    with pytest.raises(DatasetError, match=rf"learnt from .* {then}, which is {now[:10]} now"):
        evaluate(finished["run"], episodes=1, runs=tmp_path / "finished", data=home)
    with pytest.raises(Stopped):
        train(replace(spec, seed=1), data=home, runs=tmp_path / "runs", observe=stop)  # another run
    assert train(spec, data=home, runs=tmp_path / "runs", force=True)["dataset"]["fingerprint"] == now
    shutil.rmtree(dataset.folder)
    build(episodes, dataset.folder, described)
    assert train(spec, data=home, runs=tmp_path / "runs")["evaluations"] == finished["evaluations"]


def test_a_plan_collects_the_whole_dataset_once(data: Path, tmp_path: Path) -> None:
    spec, place = RunSpec("offline_dv2", "toy/point", preset="smoke"), Place(tmp_path / "data", tmp_path / "runs", "cpu")
    whole, half = (
        collect_job(replace(spec, quality=quality).plan(), place)
        for quality in ("medium-replay", "medium-replay@first=0.5")
    )
    assert half.key == whole.key and half.argv == whole.argv and not half.finished()
    place = replace(place, data=data)
    half = collect_job(replace(spec, quality="medium-replay@first=0.5").plan(), place)
    assert half.finished()
    with pytest.raises(UsageError, match="none of the"):
        collect_job(replace(spec, quality="medium-replay@noise=77").plan(), place)


def test_rules_do_not_eat_each_other(dataset: Dataset) -> None:
    """Conditions are decided on the whole dataset: a subset of two is where both are."""
    rules = ["first=0.6", "return=0.4..1", "success=1", "noise=0.1..", "part=train,holdout=0.3"]
    for one, two in itertools.combinations(rules, 2):
        both = set(dataset.subset(one).numbers) & set(dataset.subset(two).numbers)
        if both:
            assert set(dataset.subset(f"{two},{one}").numbers) == both
