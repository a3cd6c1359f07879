"""Batches of several domains: how many windows each has, how they are padded, and that number k is always the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_episodes import SIZE, card, picture, played

from coworld_bench.config import Config
from coworld_bench.data.build import build
from coworld_bench.data.dataset import Dataset, open_dataset
from coworld_bench.data.episode import Episode
from coworld_bench.data.memory import BatchStream, EpisodeMemory
from coworld_bench.data.mixes import Element, Mix
from coworld_bench.dreamer import AgentSpec, DreamerAgent
from coworld_bench.errors import UsageError

Make = Callable[..., Mix]


def longer(number: int, env_steps: int) -> Episode:
    """An episode of another domain: actions of size 5, states of size 3, other pictures."""
    rng, rows = np.random.default_rng(number), env_steps + 1
    action, reward = rng.uniform(-1, 1, (rows, 5)).astype(np.float32), rng.uniform(0, 5, rows).astype(np.float32)
    action[0] = reward[0] = 0
    image = np.stack([255 - picture(number, row) for row in range(rows)])
    state = np.stack([np.full(rows, 100 + number), np.arange(rows), np.ones(rows)], -1).astype(np.float32)
    return Episode(image, state, action, reward, np.zeros(rows, np.uint8), meta={"policy": "agent"})


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    """A small domain and a large one."""
    home = tmp_path_factory.mktemp("data")
    small = build([played(number, 20 + number) for number in range(4)], home / "small", card())
    large = build([longer(number, 33) for number in range(3)], home / "large", card())
    return open_dataset(small), open_dataset(large)


def mix(datasets: tuple[Dataset, Dataset], kind: Any = "ram", weights: tuple[float, float] = (1, 2), **how: Any) -> Mix:
    names, scales = ("small", "large"), (0.5, 2.0)
    elements = [Element(datasets[i].load(kind), weights[i], names[i], scales[i]) for i in range(2)]
    return Mix(elements, **{"seed": 7, "batch": 10, "length": 6} | how)


def assert_same(one: Any, two: Any) -> None:
    for name, array in vars(one).items():
        np.testing.assert_array_equal(getattr(two, name), array, err_msg=name)
        assert getattr(two, name).dtype == array.dtype


@pytest.mark.parametrize("windows", ["inside", "across"])
def test_batch_k_is_the_same_for_every_backend_and_order(
    datasets: tuple[Dataset, Dataset], windows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COWORLD_BENCH_CACHE", str(tmp_path))
    ram, packed, shared = (mix(datasets, kind, windows=windows) for kind in ("ram", "packed", "shared"))
    drawn = [ram.next() for _ in range(8)]
    for k in (7, 0, 3, 10**6):
        expected = drawn[k] if k < 8 else ram.at(k)
        assert_same(packed.at(k), expected)
        assert_same(shared.at(k), expected)
    later = mix(datasets)
    later.load_state_dict(mix(datasets, k=5).state_dict())
    assert mix(datasets, k=5).state_dict() == {"seed": 7, "k": 5}
    assert_same(later.next(), mix(datasets).at(5))
    assert not np.array_equal(mix(datasets, seed=8).at(0).reward, drawn[0].reward)


def test_windows_are_shared_out_by_weight(datasets: tuple[Dataset, Dataset]) -> None:
    whole = mix(datasets, weights=(0.3, 0.7))
    assert {tuple(whole.counts(k)) for k in range(200)} == {(3, 7)}
    uneven = mix(datasets, weights=(1, 2))  # 10/3 and 20/3 windows
    counts = np.array([uneven.counts(k) for k in range(3000)])
    assert set(map(tuple, counts)) == {(3, 7), (4, 6)}
    assert abs(counts[:, 0].mean() - 10 / 3) < 0.04  # 4.6 standard errors
    rare = mix(datasets, weights=(1, 99), batch=2)
    counts = np.array([rare.counts(k) for k in range(4000)])
    assert (counts.sum(1) == 2).all() and 40 < (counts[:, 0] == 1).sum() < 130


def test_a_batch_is_padded_and_says_what_is_padding(datasets: tuple[Dataset, Dataset]) -> None:
    mixed = mix(datasets)
    for k in range(5):
        batch, (small, large) = mixed.at(k), mixed.per_domain(k)
        count = len(small.reward)
        assert batch.action.shape == (10, 6, 5) and batch.state.shape == (10, 6, 3)
        assert batch.domain.tolist() == [0] * count + [1] * (10 - count)
        np.testing.assert_array_equal(batch.mask, [[True] * 2 + [False] * 3] * count + [[True] * 5] * (10 - count))
        assert not (batch.action * ~batch.mask[:, None]).any()
        np.testing.assert_array_equal(batch.action[:count, :, :2], small.action)
        np.testing.assert_array_equal(batch.action[count:], large.action)
        number, row = small.state[..., 0], small.state[..., 1]
        np.testing.assert_array_equal(small.reward, np.where(row > 0, 0.5 * (0.25 * (row - 1) + number), 0))
        assert batch.image is not None and batch.image.shape == (10, 6, SIZE, SIZE, 3)


def test_the_padding_is_that_of_agents(tiny: Config) -> None:
    """Rows of two agents side by side, one widened to the other's actions, are the rows of a mixed batch."""
    small = EpisodeMemory().extend(grown(played(number, 20)) for number in range(3))
    large = EpisodeMemory().extend(grown(longer(number, 20)) for number in range(3))
    mixed = Mix([Element(small, 1, "small", 0.5), Element(large, 1, "large", 2.0)], 0, 6, 4)
    specs = AgentSpec(2, 5, 0.5), AgentSpec(5, 5, 2.0)
    agents = [DreamerAgent(tiny, spec, 0) for spec in specs]
    unscaled = Mix([Element(small, 1), Element(large, 1)], 0, 6, 4)
    one, two = (agent.rows(batch) for agent, batch in zip(agents, unscaled.per_domain(3), strict=True))
    rows, batch = one.joined(two), mixed.at(3)
    assert torch.equal(rows.action, torch.from_numpy(batch.action).transpose(0, 1))
    assert torch.equal(rows.reward, torch.from_numpy(batch.reward).transpose(0, 1))
    assert rows.image is not None and torch.equal(rows.image, torch.from_numpy(batch.image).transpose(0, 1))
    for spec, own in zip(specs, (batch.mask[0], batch.mask[-1]), strict=True):
        assert torch.equal(spec.mask.bool(), torch.from_numpy(own))


def grown(episode: Episode) -> Episode:
    """With pictures of 64 x 64, as agents see them."""
    assert episode.image is not None
    image = episode.image.repeat(64 // SIZE, 1).repeat(64 // SIZE, 2)
    return Episode(image, episode.state, episode.action, episode.reward, episode.success, meta=episode.meta)


def test_a_domain_may_have_no_window_in_a_batch(datasets: tuple[Dataset, Dataset]) -> None:
    for kind in ("ram", "packed"):
        rare = mix(datasets, kind, weights=(1, 99), batch=2)
        empty = next(k for k in range(100) if rare.counts(k)[0] == 0)
        assert rare.at(empty).domain.tolist() == [1, 1] and len(rare.per_domain(empty)[0].reward) == 0


def test_one_domain_twice_is_drawn_independently(datasets: tuple[Dataset, Dataset]) -> None:
    memory = datasets[0].load("ram")
    one, two = Mix([Element(memory), Element(memory)], 0, 20, 5).per_domain(0)
    assert not np.array_equal(one.state, two.state)
    assert not np.array_equal(one.state, BatchStream(memory, 0, 10, 5).at(0).state)


def test_what_cannot_be_mixed_is_a_sentence(datasets: tuple[Dataset, Dataset]) -> None:
    memory = datasets[0].load("ram")
    for weight in (0, -1, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="above 0"):
            Element(memory, weight)
    with pytest.raises(UsageError, match="at least one domain"):
        Mix([], 0, 2, 3)
    other = EpisodeMemory().extend([grown(played(0, 20))])
    with pytest.raises(UsageError, match=r"pictures of one size; got a \(16, 16, 3\), b \(64, 64, 3\)"):
        Mix([Element(memory, 1, "a"), Element(other, 1, "b")], 0, 2, 3)
    blind = EpisodeMemory().extend([played(0, 20, pictures=False)])
    assert Mix([Element(memory), Element(blind)], 0, 4, 3).at(0).image is None
