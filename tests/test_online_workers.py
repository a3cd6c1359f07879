"""Collecting with several environment processes: reproducible, resumable, and named where it changes what comes out."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coworld_bench.collecting import collect, plan_collection
from coworld_bench.config import override, resolve
from coworld_bench.data.dataset import open_dataset
from coworld_bench.data.staging import Staging
from coworld_bench.envs import domain_of
from coworld_bench.envs.pool import EnvPool, EnvProcessError, env_pool
from coworld_bench.errors import UsageError
from coworld_bench.files import read_json
from coworld_bench.online import OnlineAgent
from coworld_bench.run_spec import RunSpec
from coworld_bench.sources import pretrain_source
from coworld_bench.tasks import EnvSpec

OPTIONS = {"online.prefill": "150", "online.train_every": "12", "online.evaluate_every": "100", "online.env_steps": "450"}
DATASET = "toy/point/medium-replay-smoke"


def made(home: Path, **how: Any) -> Path:
    """The home itself, with the dataset in it."""
    collect("toy/point", preset="smoke", data=home, options=OPTIONS, reference_return=1e9, **how)
    return home


def digests(home: Path) -> list[str]:
    return [episode.digest for episode in open_dataset(DATASET, home)]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a dataset that two processes collected."""
    home = tmp_path_factory.mktemp("together")
    made(home, workers=2)
    return home


def test_the_same_seed_and_number_of_processes_give_the_same_dataset(together: Path, tmp_path: Path) -> None:
    assert digests(together) == digests(made(tmp_path, workers=2))
    metas = [episode.meta for episode in open_dataset(DATASET, together)]
    assert [meta["policy"] for meta in metas] == ["random"] * 3 + ["agent"] * 6
    assert [meta["env_steps"] for meta in metas] == [0, 0, 100, 150, 150, 250, 250, 350, 350]
    # 2 before the first decision, then as one by one: env steps 12, 24, 36 and 48 of each episode
    assert [meta["updates"] for meta in metas] == [0, 0, 0, 2, 2, 10, 10, 18, 18]


def test_one_process_is_none_and_random_episodes_are_the_same_from_any_number(together: Path, tmp_path: Path) -> None:
    alone = digests(made(tmp_path / "alone"))
    assert digests(made(tmp_path / "one", workers=1)) == alone
    pairs = zip(alone, digests(together), strict=True)
    assert [one == other for one, other in pairs] == [True] * 3 + [False] * 6


def test_the_number_names_the_collection_only_where_it_decides_the_episodes(together: Path) -> None:
    def digest(workers: int | None) -> str:
        return plan_collection("toy/point", preset="smoke", workers=workers).recipe["digest"]

    assert digest(None) == digest(0) == digest(1)
    assert len({digest(1), digest(2), digest(3)}) == 3
    card = open_dataset(DATASET, together).card
    assert card["provenance"]["workers"] == 2 == card["recipe"]["config"]["online"]["workers"]
    with pytest.raises(UsageError, match=r"online.workers.*greater than or equal to 0"):
        plan_collection("toy/point", preset="smoke", workers=-1)


def test_one_process_leaves_no_trace_in_the_card(tmp_path: Path) -> None:
    card = open_dataset(DATASET, made(tmp_path)).card
    assert "workers" not in card["provenance"] and "workers" not in card["recipe"]["config"]["online"]


def after(calls: int, what: Callable[[], None]) -> Callable[[dict[str, Any]], None]:
    left = iter(range(calls))

    def observe(_: dict[str, Any]) -> None:
        if next(left, None) is None:
            what()

    return observe


def test_a_collection_whose_process_died_goes_on_to_the_same_dataset(
    together: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[EnvPool] = []
    remember = EnvPool.reset

    def reset(pool: EnvPool, env: int, seed: int) -> None:
        pools.append(pool)
        remember(pool, env, seed)

    def kill() -> None:
        os.kill(pools[-1]._processes[1].process.pid or 0, signal.SIGKILL)

    monkeypatch.setattr(EnvPool, "reset", reset)
    with pytest.raises(EnvProcessError, match=r"environment process 2 of 2 \(toy/point\) was killed by SIGKILL"):
        made(tmp_path, workers=2, observe=after(3, kill))
    assert not pools[-1]._processes
    with pytest.raises(UsageError, match="--resume goes on with it"):
        made(tmp_path, workers=2)
    made(tmp_path, workers=2, resume=True)
    assert digests(tmp_path) == digests(together)
    assert (
        open_dataset(DATASET, tmp_path).card["quality"]["curve"] == open_dataset(DATASET, together).card["quality"]["curve"]
    )


def test_learning_keeps_pace_with_any_number_of_processes(tmp_path: Path) -> None:
    """Per episode 49 // 8 = 6 updates, in rounds of three as in rounds of one; 2 come first."""
    config = override(resolve("smoke", "toy"), OPTIONS | {"online.train_every": "8", "online.prefill": "50"})
    env = EnvSpec("toy/point")
    with env_pool(env, 3) as pool, Staging(tmp_path) as staging:
        online = OnlineAgent(domain_of(env), config, 0, staging, pool=pool)
        counts = []
        while online.env_steps < 400:
            episodes = online.episodes(400)
            counts.append((len(episodes), online.updates))
    assert counts == [(1, 0), (3, 20), (3, 38), (1, 44)]


def test_a_source_agent_from_several_processes_is_another_one(tmp_path: Path) -> None:
    def source(**options: str) -> Any:
        options = {"online.source_env_steps": "300", "online.prefill": "100"} | options
        spec = RunSpec("coworld", "toy/point", ("toy/point_mirrored",), preset="smoke", options=options)
        return spec.plan().source_specs()[0]

    alone, two = source(), source(**{"online.workers": "2"})
    assert source(**{"online.workers": "1"}).digest == alone.digest != two.digest
    for home in (tmp_path / "first", tmp_path / "again"):
        pretrain_source(two, home)
    first, again = (read_json(two.folder(home) / "source.json") for home in (tmp_path / "first", tmp_path / "again"))
    assert first["returns"] == again["returns"] and first["env_steps"] == 300 and len(first["returns"]) == 6
