"""`store verify` and `store merge`: what is found wrong in a store, and what becomes of runs that several stores hold."""

from __future__ import annotations

import errno
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

import pytest
from report_samples import put, put_anchors, put_failed, result

from coworld_bench.bench import merging
from coworld_bench.bench.claims import claimed
from coworld_bench.bench.merging import BUSY, COMPLETED, CONFLICT, COPIED, REPLACED, THERE, merge
from coworld_bench.cli import main
from coworld_bench.errors import DATASET, OK, SOME_FAILED, USAGE, UsageError
from coworld_bench.files import read_json, write_json
from coworld_bench.reporting.store import read_store
from coworld_bench.reporting.stores.records import run_name
from coworld_bench.reporting.stores.verifying import Fault, check_run, verify_store
from coworld_bench.run_spec import ResolvedRun, RunSpec

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "reports" / "measured" / "quick"
RUN = "coworld--metaworld-window_close--metaworld-drawer_close--s4--e19da94d0c"  # has a source, a revision and five seeds
OTHER = "offline_dv2--metaworld-window_close--none--s4--ae6e744439"  # on the same cell and dataset
WINDOW, DRAWER = "metaworld/window_close", "metaworld/drawer_close"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two measured runs of one cell with the anchors of their target."""
    for run in (RUN, OTHER):
        shutil.copytree(MEASURED / "runs" / run, tmp_path / "store" / run)
    (tmp_path / "store" / "anchors").mkdir()
    shutil.copy(MEASURED / "anchors" / "metaworld-window_close-quick.json", tmp_path / "store" / "anchors")
    return tmp_path / "store"


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file in place; a change may return what takes its place."""
    content = read_json(path)
    path.write_text(json.dumps(change(content) or content))


def put_value(*path: str | int, value: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        *way, last = path
        for step in way:
            content = content[step]
        content[last] = value

    return change


def swap_seeds(content: Any) -> None:
    first, second = content["evaluations"][5]["episodes"]
    first["seed"], second["seed"] = second["seed"], first["seed"]


def faults_of(store: Path, grave: bool = True) -> list[Fault]:
    return [fault for fault in verify_store(store).faults if fault.warning != grave]


def test_the_measured_results_hold_what_was_written() -> None:
    found = verify_store(MEASURED)
    assert found.faults == ()
    assert found.runs == {"finished": len(list((MEASURED / "runs").iterdir())), "failed": 0, "unfinished": 0}
    assert found.anchors == 6


@pytest.mark.parametrize(
    "spec",
    [
        RunSpec("offline_dv2", "toy/point", preset="smoke", seed=3),
        RunSpec("coworld:without_max", "toy/point", ("toy/point_mirrored",), preset="smoke", options={"model.deter": "16"}),
        RunSpec("coworld_multi", "toy/point", ("toy/point", "toy/point_mirrored"), preset="smoke"),
        RunSpec("cql", "toy/point", preset="smoke", options={"cql.tau": "0.2"}, target_options={"env.action_noise": "0.5"}),
    ],
    ids=lambda spec: spec.method,
)
def test_the_name_of_a_run_is_made_again_as_the_run_made_it(spec: RunSpec) -> None:
    """From config.json alone: the recipe of `run_spec` and the one that verifies it must not drift apart."""
    planned = spec.plan()
    dataset: Any = SimpleNamespace(env_spec=planned.env, fingerprint="0f" * 32, id="toy")
    resolved = ResolvedRun(planned, dataset)
    config = json.loads(json.dumps(resolved.config))
    assert run_name(config) == resolved.id
    assert run_name(config | {"seed": spec.seed + 1}) != resolved.id
    assert run_name(config | {"dataset": {"fingerprint": "0f" * 32}}) == resolved.id


LATE = 5  # a checkpoint in the last half
BREAKS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "score": (put_value("score", "mean", value=900.0), "its score has mean 900.0, its episodes give"),
    "score a little": (lambda content: content["score"].update(mean=content["score"]["mean"] + 1e-6), "its score has mean"),
    "spread": (put_value("score", "sd_checkpoints", value=1.0), "its score has sd_checkpoints 1.0"),
    "success": (put_value("score", "success", value=0.9), "its score has success 0.9"),
    "episodes of the score": (put_value("score", "episodes", value=10), "its score has episodes 10"),
    "rule": (put_value("score", "rule", value="the best checkpoint"), "a rule that this version does not know"),
    "return": (put_value("evaluations", LATE, "episodes", 0, "return", value=4321.0), "its score has mean"),
    "return that is text": (put_value("evaluations", 0, "episodes", 0, "return", value="31"), "return '31'"),
    "return too high": (put_value("evaluations", LATE, "episodes", 0, "return", value=1e9), "its score has mean"),
    "return not finite": (put_value("evaluations", LATE, "episodes", 0, "return", value=float("nan")), "return nan"),
    "early return not finite": (put_value("evaluations", 0, "episodes", 0, "return", value=float("inf")), "return inf"),
    "won episode": (put_value("evaluations", LATE, "episodes", 0, "success", value=True), "its score has success"),
    "length": (put_value("evaluations", 0, "episodes", 0, "length", value=249), "window_close has 250"),
    "critic": (put_value("evaluations", 0, "episodes", 0, "value_predicted", value=1.0), "which must be equal"),
    "swapped seeds": (swap_seeds, "episode 10 has seed 200400011 (evaluate stream of seed 4), which must be 200400010"),
    "repeated seed": (put_value("evaluations", 1, "episodes", 0, "seed", value=200400000), "occurs more than once"),
    "collection seed": (put_value("evaluations", 0, "episodes", 0, "seed", value=400000), "(collect stream of seed 4)"),
    "seed of no stream": (put_value("evaluations", 0, "episodes", 0, "seed", value=-1), "(no seed)"),
    "updates descend": (put_value("evaluations", LATE, "updates", value=800), "updates of its checkpoints do not ascend"),
    "updates elsewhere": (put_value("evaluations", 1, "updates", value=380), "not where its settings put them"),
    "lost checkpoint": (lambda content: content["evaluations"].pop(LATE) and None, "not where its settings put them"),
    "lost episode": (lambda content: content["evaluations"][LATE]["episodes"].pop() and None, "its settings say 2"),
    "no checkpoints": (put_value("evaluations", value=[]), "it has no checkpoints"),
    "setting": (put_value("config", "batch", "size", value=32), "its name is not that of its settings"),
    "setting of the method": (put_value("method_config", "alpha", value=2.0), "its name is not that of its settings"),
    "fingerprint": (put_value("dataset", "fingerprint", value="ab" * 32), "its name is not that of its settings"),
    "half a fingerprint": (put_value("dataset", "fingerprint", value="c7cae6b56d"), "no SHA-256: 'c7cae6b56d'"),
    "dataset": (put_value("dataset", "id", value="metaworld/door_close/medium-replay-quick-v0"), "its dataset is called"),
    "size of the dataset": (put_value("dataset", "episodes", value=40), "it says other than"),
    "environment": (put_value("env", "action_noise", value=0.5), "its name is not that of its settings"),
    "environment that cannot be": (put_value("env", "action_repeat", value=3), "action_repeat must divide the 500 frames"),
    "seed": (put_value("seed", value=3), "its name begins otherwise than its method, tasks and seed say"),
    "method": (put_value("method", value="dv2_finetune"), "its name begins otherwise"),
    "source": (put_value("sources", 0, value="metaworld/door_close"), "its source agents are not of its sources"),
    "source agent": (put_value("source_agents", 0, "digest", value="00" * 32), "not those that determine it"),
    "preset": (put_value("preset", value="quik"), "there is no preset 'quik'"),
    "protocol": (put_value("protocol", value=0), "its protocol is 0"),
    "schema": (put_value("schema", value=2), "its schema is 2, this version reads 1 to 1"),
    "no schema at all": (put_value("schema", value="one"), "its schema is 'one'"),
    "no score": (lambda content: content.pop("score") and None, "its score cannot be checked: it lacks 'score'"),
    "another thing": (lambda content: [content], "it lacks method"),
    "evaluations that are none": (put_value("evaluations", value=7), "cannot be checked"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_a_changed_value_is_found(name: str, store: Path) -> None:
    change, sentence = BREAKS[name]
    assert faults_of(store) == []
    edit(store / RUN / "result.json", change)
    found = faults_of(store)
    assert any(sentence in fault.what for fault in found), found
    assert {fault.file for fault in found} <= {f"{RUN}/result.json", f"{OTHER}/result.json"}
    assert all(fault.do for fault in found)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value inside a JSON value that holds no other, with the way to it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield path, value
        return
    for key, each in inner:
        yield from leaves(each, (*path, key))


def other(value: Any) -> Any:
    """A value of the same kind that is not the same: one more, 1 % more, the opposite."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1 if isinstance(value, int) else 1.01 * value + 1e-3
    return f"{value}x" if isinstance(value, str) else 1


SEEN_NOWHERE_ELSE = (
    "budget", "commit", "device", "diagnostics", "label", "machine", "time", "versions", "domains", "target_options",
    "source_options", "options",
)  # fmt: skip


def unchecked(path: tuple[Any, ...], early: int) -> bool:
    """Whether no second value in the file tells what stands there. Of a dataset another result does, of an early return
    eval.jsonl."""
    if path[0] == "evaluations":
        return path[1] < early and path[-1] in ("return", "success")
    if path[0] == "dataset":
        return path[1] not in ("fingerprint", "id")
    return path[0] in SEEN_NOWHERE_ELSE or path[-1] == "return_mean"


def alike(value: Any, other: Any) -> bool:
    """Whether two values are the same but for what the order of a sum may change."""
    if isinstance(value, float) and isinstance(other, float):
        return math.isclose(value, other, rel_tol=1e-11)
    return bool(value == other)


def test_of_all_values_those_with_a_second_witness_are_found(store: Path) -> None:
    """One change at a time of each of the values in a result: 302 of 363 are found in that file alone."""
    folder, raw = store / RUN, (store / RUN / "result.json").read_bytes()
    early = sum(evaluation["updates"] <= 750 for evaluation in json.loads(raw)["evaluations"])
    found, missed = 0, []
    for path, value in leaves(json.loads(raw)):
        content = json.loads(raw)
        put_value(*path, value=other(value))(content)
        (folder / "result.json").write_text(json.dumps(content))
        if any(not fault.warning for fault in check_run(store, folder)[1]):
            found += 1
        else:
            missed.append(path)
    assert [path for path in missed if not unchecked(path, early)] == []
    assert (found, len(missed)) == (302, 61)


def test_flipped_bits_are_found_wherever_a_number_counts(store: Path) -> None:
    """A bit of every 61st byte, one at a time; what is not found changes nothing but what has no second witness."""
    folder, raw = store / RUN, (store / RUN / "result.json").read_bytes()
    before = dict(leaves(json.loads(raw)))
    early = sum(evaluation["updates"] <= 750 for evaluation in json.loads(raw)["evaluations"])
    found, missed = 0, 0
    for place in range(0, len(raw), 61):
        flipped = bytearray(raw)
        flipped[place] ^= 1 << place % 8
        (folder / "result.json").write_bytes(flipped)
        if any(not fault.warning for fault in check_run(store, folder)[1]):
            found += 1
            continue
        missed += 1
        after = dict(leaves(json.loads(bytes(flipped))))
        changed = {path for path, value in before.items() if not alike(value, after.get(path))}
        assert all(unchecked(path, early) for path in changed), changed
    assert (found, missed) == (220, 17)


def test_a_file_that_cannot_be_read_is_named(store: Path) -> None:
    for damage in (b"", b"\xff\x00", b"{", b"[" * 5000, (store / RUN / "result.json").read_bytes()[:-40]):
        (store / RUN / "result.json").write_bytes(damage)
        (fault,) = faults_of(store)
        assert fault.file == f"{RUN}/result.json" and "it cannot be read" in fault.what and "merge" in fault.do
    assert verify_store(store).runs["finished"] == 1


def test_a_renamed_folder_a_second_one_and_an_empty_one(store: Path) -> None:
    shutil.copytree(store / RUN, store / "copy--of--it")
    assert {fault.what.split("--")[0] for fault in faults_of(store)} == {"it is of run 'coworld", "run coworld"}
    shutil.rmtree(store / "copy--of--it")
    (store / RUN).rename(store / RUN.replace("s4", "s5"))
    (fault,) = faults_of(store)
    assert fault.what.startswith(f"it is of run '{RUN}'") and fault.do == "give it back the name in its file"
    (store / "empty--run").mkdir()
    assert faults_of(store)[1].file == "empty--run"
    (store / "logs").mkdir()
    assert len(faults_of(store)) == 2


def test_files_of_one_run_that_contradict_each_other(store: Path) -> None:
    folder = store / RUN
    content = read_json(folder / "result.json")
    keys = content.keys() - {"dataset", "evaluations", "score", "time", "diagnostics"}
    config = {key: content[key] for key in keys} | {"dataset": content["dataset"]["fingerprint"]}
    write_json(folder / "config.json", config)
    shutil.copystat(folder / "result.json", folder / "config.json")
    lines = [{"updates": each["updates"], **episode} for each in content["evaluations"] for episode in each["episodes"]]
    (folder / "eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "rollout.png").write_bytes(b"picture")
    write_json(folder / "rollout.json", {"run": RUN, "file": "rollout.png", "sha256": sha256(b"picture").hexdigest()})
    assert verify_store(store).faults == ()

    write_json(folder / "config.json", config | {"quality": "medium-expert"})
    lines[0]["return"] += 1  # an early one, which the score does not count
    (folder / "eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "rollout.png").write_bytes(b"other")
    assert [(fault.file.split("/")[1], fault.what[:20]) for fault in faults_of(store)] == [
        ("result.json", "its quality is not t"),
        ("eval.jsonl", "return of episode 20"),
        ("rollout.json", "rollout.png is not t"),
    ]
    (fault,) = faults_of(store, grave=False)
    assert "it was written after result.json" in fault.what  # it was, just now
    (folder / "eval.jsonl").write_text("")
    assert "it has 0 episodes, the result 26" in {fault.what for fault in faults_of(store)}


def test_an_unfinished_run_and_a_failed_one(store: Path) -> None:
    content = read_json(store / RUN / "result.json")
    config = {key: content[key] for key in content.keys() - {"evaluations", "score"}}
    write_json(store / RUN / "config.json", config | {"dataset": content["dataset"]["fingerprint"]})
    (store / RUN / "result.json").unlink()
    put_failed(store, "cql", WINDOW, 0)
    found = verify_store(store)
    assert found.runs == {"finished": 1, "failed": 1, "unfinished": 1} and found.faults == ()
    edit(store / RUN / "config.json", put_value("config", "budget", "updates", value=3000))
    assert "its name is not that of its settings" in faults_of(store)[0].what
    put(store, {"run": OTHER, "method": "offline_dv2", "target": WINDOW, "seed": 4, "preset": "quick"}, "failed")
    (fault,) = faults_of(store, grave=False)
    assert fault.file == f"{OTHER}/failed.json" and "the run has a result too" in fault.what


def test_anchors(store: Path) -> None:
    path = store / "anchors" / "metaworld-window_close-quick.json"
    good = path.read_text()
    for change, sentence in [
        (put_value("random", "returns", 3, value=float("nan")), "a return of the random policy is no finite number"),
        (put_value("constant", "successes", value=[]), "has 12 returns and 0 successes"),
        (lambda content: content.pop("untrained") and None, "it tells of random, constant, scripted alone"),
        (put_value("env", "task", value=DRAWER), "its environment is not one of its task"),
        (put_value("task", value=DRAWER), "would be called metaworld-drawer_close-quick"),
        (put_value("preset", value="smoke"), "would be called metaworld-window_close-smoke"),
        (put_value("env", value=3), "cannot be checked"),
    ]:
        edit(path, change)
        assert any(sentence in fault.what for fault in faults_of(store)), (sentence, faults_of(store))
        path.write_text(good)
    path.write_text(good[:99])
    assert "it cannot be read" in faults_of(store)[0].what
    put_anchors(store, DRAWER, 100.0)
    path.write_text(good)
    assert verify_store(store).faults == ()  # no run is on it yet
    edit(path, put_value("env", "action_noise", value=0.5))
    found = verify_store(store).faults
    assert [fault.warning for fault in found] == [False, True]
    assert "would be called metaworld-window_close-quick-" in found[0].what
    assert "no run of this store was judged in its environment" in found[1].what


def test_what_a_killed_writer_left_and_what_a_merge_kept_apart(store: Path) -> None:
    (store / f".{RUN}.partial").mkdir()
    (store / f".{RUN}.partial" / "result.json.tmp").write_text("{")
    (store / OTHER / ".result.json.77.partial").write_text("{")
    assert [fault.file for fault in faults_of(store)] == [f".{RUN}.partial", f"{OTHER}/.result.json.77.partial"]
    assert len(read_store(store).runs) == 2
    (store / "conflicts" / f"{RUN}--0123456789").mkdir(parents=True)
    (fault,) = faults_of(store, grave=False)
    assert fault.what.startswith("1 results of runs that are here with other numbers")


def test_methods_that_learnt_from_different_data_are_noted(store: Path) -> None:
    """A run on other episodes, named rightly: no fault of its file, but its column must not be compared."""
    content = read_json(store / OTHER / "result.json")
    content["dataset"]["fingerprint"] = "ab" * 32
    content["run"] = run_name(content)
    (store / OTHER).rename(store / content["run"])
    write_json(store / content["run"] / "result.json", content)
    found = verify_store(store)
    assert found.ok
    (fault,) = found.faults
    assert fault.file == f"{WINDOW} (quick, medium-replay)"
    assert "2 datasets: c7cae6b56d (1 runs), abababababab"[:30] in fault.what


def test_verify_on_the_command_line(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "verify", str(store)]) == OK
    assert capsys.readouterr().out == f"{store}: 2 finished, 0 failed, 0 unfinished, 1 anchors; no fault\n"
    edit(store / RUN / "result.json", BREAKS["score"][0])
    assert main(["store", "verify", str(store)]) == DATASET
    out = capsys.readouterr().out
    assert f"FAULT: {RUN}/result.json\n  its score has mean 900.0" in out and out.endswith("1 fault\n")
    assert main(["store", "verify", str(store), "--json"]) == DATASET
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["ok"], len(told["faults"])) == (1, False, 1)
    assert main(["store", "verify", str(store / "nowhere")]) == USAGE
    assert main(["store", "verfy"]) == USAGE
    assert "verify" in capsys.readouterr().err


# store merge


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a store but its locks."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".locks" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def kinds(done: merging.Merge) -> dict[str, str]:
    return {step.name: step.kind for step in done.steps}


def stored(store: Path, mean: float = 100.0, seed: int = 0, **changes: Any) -> Path:
    """A finished run with all its files, as the harness leaves them."""
    content = result("offline_dv2", WINDOW, mean, seed, **changes)
    folder = put(store, content).parent
    write_json(folder / "config.json", {key: content[key] for key in ("run", "method", "target", "seed", "preset")})
    for name in (
        "eval.jsonl",
        "metrics.jsonl",
        "stderr.log",
        "rollout.png",
        "checkpoints/00000001-0123456789abcdef.pt",
        "scratch/0/agent.pt",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name} {seed}\n")
    return folder


def test_stores_are_united(tmp_path: Path) -> None:
    """Everything of a run but what only its own machine needs; a second merge finds nothing to do."""
    first, second, into = tmp_path / "a", tmp_path / "b", tmp_path / "into"
    one, two = stored(first), stored(second, seed=1)
    put_anchors(second, WINDOW, 100.0)
    done = merge(into, [first, second])
    anchors = "anchors/metaworld-window_close-quick.json"
    assert kinds(done) == {one.name: COPIED, two.name: COPIED, anchors: COPIED} and done.ok
    names = ("config.json", "eval.jsonl", "metrics.jsonl", "result.json", "rollout.png")
    assert set(tree(into)) == {f"{run.name}/{name}" for run in (one, two) for name in names} | {anchors}
    assert (into / two.name / "result.json").read_bytes() == (two / "result.json").read_bytes()
    assert (into / two.name / "result.json").stat().st_mtime == (two / "result.json").stat().st_mtime
    before = tree(into)
    again = merge(into, [first, second])
    assert set(kinds(again).values()) == {THERE} and tree(into) == before
    assert list(read_store(into).runs["seed"]) == [0, 1]


def test_runs_go_beside_those_that_are_there(tmp_path: Path) -> None:
    stored(tmp_path / "into" / "runs")
    new = stored(tmp_path / "other", seed=1)
    merge(tmp_path / "into", [tmp_path / "other"])
    assert (tmp_path / "into" / "runs" / new.name / "result.json").is_file()


def test_checkpoints_come_along_when_they_are_asked_for(tmp_path: Path) -> None:
    run = stored(tmp_path / "other")
    merge(tmp_path / "into", [tmp_path / "other"])
    done = merge(tmp_path / "into", [tmp_path / "other"], checkpoints=True)
    assert kinds(done) == {run.name: COMPLETED}
    assert tree(tmp_path / "into") == tree(tmp_path / "other")


def put_state(store: Path, state: str) -> Path:
    """The run of seed 0: finished, failed, or unfinished with a checkpoint; all three have logs."""
    folder = stored(store)
    if state != "finished":
        (folder / "result.json").unlink()
    if state == "failed":
        put_failed(store, "offline_dv2", WINDOW, 0)
    return folder


@pytest.mark.parametrize(
    ("here", "there", "kind", "state"),
    [
        ("finished", "failed", THERE, "finished"),
        ("finished", "unfinished", THERE, "finished"),
        ("failed", "unfinished", THERE, "failed"),
        ("failed", "failed", THERE, "failed"),
        ("unfinished", "unfinished", THERE, "unfinished"),
        ("failed", "finished", REPLACED, "finished"),
        ("unfinished", "finished", REPLACED, "finished"),
        ("unfinished", "failed", COMPLETED, "failed"),
    ],
)
def test_finished_beats_failed_beats_unfinished(tmp_path: Path, here: str, there: str, kind: str, state: str) -> None:
    into, other = tmp_path / "into", tmp_path / "other"
    run = put_state(into, here)
    before = tree(into)
    put_state(other, there)
    assert set(kinds(merge(into, [other])).values()) == {kind}
    assert list(read_store(into).runs["state"]) == [state]
    after = tree(into)
    if kind == THERE:
        assert after == before
    if kind == REPLACED:  # nothing of the run that did not end: its state is not that of the result
        assert "checkpoints/00000001-0123456789abcdef.pt" not in {name.partition("/")[2] for name in after}
        assert (into / run.name / "failed.json").exists() is False
    if kind == COMPLETED:
        assert after == before | {f"{run.name}/failed.json": (other / run.name / "failed.json").read_bytes()}


def test_an_unfinished_run_takes_its_logs_with_its_checkpoint_alone(tmp_path: Path) -> None:
    """Without the state it would begin anew, and its log would tell of two beginnings."""
    run = put_state(tmp_path / "other", "unfinished")
    merge(tmp_path / "into", [tmp_path / "other"])
    assert set(tree(tmp_path / "into")) == {f"{run.name}/config.json"}
    done = merge(tmp_path / "into", [tmp_path / "other"], checkpoints=True)
    assert kinds(done) == {run.name: REPLACED}
    assert tree(tmp_path / "into") == tree(tmp_path / "other")


def test_the_same_numbers_at_another_time_and_place_are_no_conflict(tmp_path: Path) -> None:
    stored(tmp_path / "into")
    elsewhere = {
        "time": {"wall_s": 9.9, "started": "2026-01-01", "finished": "2026-01-02"},
        "commit": {"commit": "f" * 40, "dirty": False},
        "device": "cuda",
        "machine": {"cores": 64},
        "diagnostics": {"critic/value": 1.0},
    }
    stored(tmp_path / "other", **elsewhere)
    before = tree(tmp_path / "into")
    assert set(kinds(merge(tmp_path / "into", [tmp_path / "other"])).values()) == {THERE}
    assert tree(tmp_path / "into") == before


def test_other_numbers_of_one_run_are_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into, other, third = tmp_path / "into", tmp_path / "other", tmp_path / "third"
    run = stored(into)
    stored(other, mean=101.0, commit={"commit": "f" * 40, "dirty": False})
    stored(third, mean=102.0)
    before = tree(into)
    assert main(["store", "merge", str(into), str(other), str(third)]) == SOME_FAILED
    out = capsys.readouterr().out
    assert f"{run.name}: the same run with other numbers in {other / run.name}, kept as {into / 'conflicts'}" in out
    assert "  score.mean: 100.0 against 101.0\n" in out
    assert "  evaluations[1].episodes[0].return: -50.0 against -49.0 (and 3 more)\n" in out
    assert f"  made otherwise: commit.commit: '0123456789abcdef' against '{'f' * 40}'" in out
    after = tree(into)
    assert {name: content for name, content in after.items() if not name.startswith("conflicts/")} == before
    kept = sorted((into / "conflicts").iterdir())
    assert {read_json(path / "result.json")["score"]["mean"] for path in kept} == {101.0, 102.0}
    assert list(read_store(into).runs["score"]) == [100.0]
    (kept[0] / "why.txt").write_text("the cluster has another driver")
    assert main(["store", "merge", str(into), str(other), str(third)]) == SOME_FAILED
    assert tree(into) == after | {f"conflicts/{kept[0].name}/why.txt": b"the cluster has another driver"}


def test_of_several_stores_the_first_counts(tmp_path: Path) -> None:
    """Also where a run failed in one: then the next that finished it does, and the one after must agree."""
    stores = [tmp_path / name for name in "abc"]
    put_state(stores[0], "failed")
    run = stored(stores[1], mean=101.0)
    stored(stores[2], mean=102.0)
    planned = merge(tmp_path / "into", stores, dry_run=True)
    assert not (tmp_path / "into").exists()
    done = merge(tmp_path / "into", stores)
    assert [step.kind for step in done.steps] == [step.kind for step in planned.steps] == [COPIED, REPLACED, CONFLICT]
    assert read_json(tmp_path / "into" / run.name / "result.json")["score"]["mean"] == 101.0
    assert all((store / run.name).is_dir() for store in stores)


def test_anchors_with_other_numbers_are_kept_apart_too(tmp_path: Path) -> None:
    for name, constant in (("first", 100.0), ("same", 100.0), ("other", 200.0)):
        put_anchors(tmp_path / name, WINDOW, constant)
    both = merge(tmp_path / "both", [tmp_path / "first", tmp_path / "other", tmp_path / "other" / "."])
    assert [step.kind for step in both.steps] == [COPIED, CONFLICT, CONFLICT]
    merge(tmp_path / "into", [tmp_path / "first"])
    name = "anchors/metaworld-window_close-quick.json"
    assert (tmp_path / "into" / name).stat().st_mtime == (tmp_path / "first" / name).stat().st_mtime
    before = tree(tmp_path / "into")
    done = merge(tmp_path / "into", [tmp_path / "same", tmp_path / "other"])
    assert [step.kind for step in done.steps] == [THERE, CONFLICT]
    (kept,) = (tmp_path / "into" / "conflicts" / "anchors").iterdir()
    assert read_json(kept)["constant"]["returns"] == [190.0, 210.0]
    assert {name: content for name, content in tree(tmp_path / "into").items() if "conflicts" not in name} == before


@pytest.mark.parametrize("at_once", [1, 8])
def test_an_interrupted_merge_leaves_whole_runs_and_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Stopped after each number of copied files in turn: every run of INTO is whole or not there."""
    for seed in range(2):
        stored(tmp_path / "other", seed=seed)
    copy2, left, one = shutil.copy2, 0, Lock()
    monkeypatch.setattr(merging, "AT_ONCE", at_once)

    def copy_some(source: Path, place: Path) -> None:
        nonlocal left
        with one:
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        copy2(source, place)

    for count in range(10):
        left = count
        with monkeypatch.context() as patched:
            patched.setattr(merging.shutil, "copy2", copy_some)
            with pytest.raises(KeyboardInterrupt):
                merge(tmp_path / f"into{count}", [tmp_path / "other"])
        assert {len(list(path.iterdir())) for path in (tmp_path / f"into{count}").glob("offline*")} <= {5}
        whole = len(list((tmp_path / f"into{count}").glob("offline*")))
        assert whole == count // 5 if at_once == 1 else whole <= count // 5
        merge(tmp_path / f"into{count}", [tmp_path / "other"])
        assert len(tree(tmp_path / f"into{count}")) == 10


def test_after_a_failure_no_more_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(30):
        stored(tmp_path / "other", seed=seed)
    tried: list[Path] = []

    def full(source: Path, place: Path) -> None:
        tried.append(place)
        time.sleep(0.05)
        raise OSError(errno.ENOSPC, "No space left on device", str(place))

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(merging.shutil, "copy2", full)
        patched.setattr(merging, "AT_ONCE", 2)
        merge(tmp_path / "into", [tmp_path / "other"])
    assert 1 <= len(tried) < 30
    assert merge(tmp_path / "into", [tmp_path / "other"]).counts[COPIED] == 30


def test_a_run_that_a_process_is_making_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into, other = tmp_path / "into", tmp_path / "other"
    run = put_state(into, "unfinished")
    put_state(other, "finished")
    before = tree(into)
    with claimed(into, run.name):
        assert set(kinds(merge(into, [other])).values()) == {BUSY}
        assert main(["store", "merge", str(into), str(other)]) == SOME_FAILED
    assert "another process is making it; merge again" in capsys.readouterr().out
    assert tree(into) == before
    assert set(kinds(merge(into, [other])).values()) == {REPLACED}


def test_a_run_that_appears_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    into, other = tmp_path / "into", tmp_path / "other"
    stored(other, mean=101.0)
    plan = merging.plan

    def plan_then_appear(*asked: Any) -> Iterator[merging.Step]:
        yield from plan(*asked)
        stored(into, mean=100.0)

    monkeypatch.setattr(merging, "plan", plan_then_appear)
    assert set(kinds(merge(into, [other])).values()) == {BUSY}
    assert list(read_store(into).runs["score"]) == [100.0]


def test_what_merge_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is copied."""
    into, good = tmp_path / "into", tmp_path / "good"
    run = stored(good)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    stored(tmp_path / "damaged")
    (tmp_path / "damaged" / run.name / "result.json").write_text("{")
    (tmp_path / "link").symlink_to(good)
    for into_, sources, sentence in [
        (good, [good], "is the store it would be merged into"),
        (good, [tmp_path / "link"], "is the store it would be merged into"),
        (good, [good / ".." / "good"], "is the store it would be merged into"),
        (good / "runs", [good], "is the store it would be merged into"),
        (into, [good, tmp_path / "nowhere"], "there is no folder of results"),
        (into, [tmp_path / "empty"], "holds no runs"),
        (into, [good, tmp_path / "damaged"], "is damaged"),
        (tmp_path / "file", [good], "is a file"),
    ]:
        with pytest.raises(UsageError, match=sentence):
            merge(into_, sources)
        assert not into.exists()
    assert main(["store", "merge", str(good), str(good)]) == USAGE
    assert main(["store", "merge", str(good)]) == USAGE
    capsys.readouterr()
    assert main(["store", "merge", str(into), str(good), "--dry-run", "--json"]) == OK
    told = json.loads(capsys.readouterr().out)
    assert told["dry_run"] and told["ok"] and told["counts"]["copied"] == 1
    assert not into.exists()
    assert main(["store", "merge", str(into), str(good)]) == OK
    assert "copied: 1" in capsys.readouterr().out


def test_a_merged_store_of_measured_results_verifies(tmp_path: Path) -> None:
    store = tmp_path / "half"
    for run in (RUN, OTHER):
        shutil.copytree(MEASURED / "runs" / run, store / "runs" / run)
    merge(tmp_path / "into", [store, store / "runs"])
    assert verify_store(tmp_path / "into").faults == ()
