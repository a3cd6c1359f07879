"""Three ways to the device, one batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_episodes import card, played, several

from coworld_bench import feeding
from coworld_bench.data.build import build
from coworld_bench.data.dataset import open_dataset
from coworld_bench.data.memory import BatchStream, EpisodeMemory, Memory
from coworld_bench.errors import UsageError
from coworld_bench.feeding import Ahead, Feed, Gathered, Resident, feed

CPU = torch.device("cpu")
FASTER: list[Callable[[BatchStream, torch.device], Feed]] = [Resident, Ahead]


def stream(memory: Memory, lead: int = 0) -> BatchStream:
    return BatchStream(memory, seed=3, batch=4, length=6, lead=lead)


def same(one: Feed, other: Feed) -> bool:
    pairs = list(zip(one.next(), other.next(), strict=True))
    assert all((a is None) == (b is None) for a, b in pairs)
    return all(torch.equal(a, b) for a, b in pairs if a is not None)


@pytest.mark.parametrize("faster", FASTER)
def test_batches_are_the_oracles_while_the_memory_grows_and_is_replaced(
    faster: Callable[[BatchStream, torch.device], Feed],
) -> None:
    memory = EpisodeMemory().extend([played(0, 20), played(1, 30)])
    streams = stream(memory), stream(memory)
    plain, fast = Gathered(streams[0], CPU), faster(streams[1], CPU)
    assert all(same(plain, fast) for _ in range(3))
    for index in range(2, 6):
        memory.append(played(index, 40))
        assert same(plain, fast) and same(plain, fast)
    for each in streams:
        each.memory = EpisodeMemory().extend([played(9, 25)])
    assert same(plain, fast) and same(plain, fast)
    assert streams[0].state_dict() == streams[1].state_dict() == {"seed": 3, "k": 13}


@pytest.mark.parametrize("faster", FASTER)
def test_batches_with_a_lead_are_the_oracles(faster: Callable[[BatchStream, torch.device], Feed]) -> None:
    """Episodes so short that some windows begin before them."""
    memory = EpisodeMemory().extend([played(0, 10), played(1, 12)])
    plain, fast = Gathered(stream(memory, 3), CPU), faster(stream(memory, 3), CPU)
    padded = stream(memory, 3).at(0).is_first[:, 1].any()
    assert padded and all(same(plain, fast) for _ in range(5))


@pytest.mark.parametrize("faster", FASTER)
def test_a_stream_that_is_set_back_repeats_its_batches(faster: Callable[[BatchStream, torch.device], Feed]) -> None:
    batches = stream(EpisodeMemory().extend([played(0, 20), played(1, 30)]))
    fast = faster(batches, CPU)
    first = [fast.next() for _ in range(3)]
    batches.load_state_dict({"seed": 3, "k": 1})
    for before in first[1:]:
        assert all(torch.equal(a, b) for a, b in zip(before, fast.next(), strict=True) if a is not None)


def test_shapes_are_time_first_and_a_cpu_gathers() -> None:
    found = feed(stream(EpisodeMemory().extend([played(0, 20)])), CPU)
    image, action, reward, state = found.next()
    assert isinstance(found, Gathered) and state is None
    assert image.shape[:2] == action.shape[:2] == reward.shape == (6, 4) and image.dtype == torch.uint8


@pytest.mark.parametrize("faster", FASTER)
@pytest.mark.parametrize("seen", [("image", "state"), ("state",)])
def test_batches_carry_states_where_they_are_asked_for(faster: type[Resident | Ahead], seen: tuple[str, ...]) -> None:
    memory = EpisodeMemory().extend([played(0, 20), played(1, 30)])
    plain, fast = Gathered(stream(memory), CPU, seen), faster(stream(memory), CPU, seen)
    for _ in range(3):
        assert same(plain, fast)
        memory.append(played(2, 40))
    starts = plain.batches.rows(plain.batches.k)[:, 0]
    drawn = plain.next()
    assert drawn.state is not None and torch.equal(drawn.state[0], torch.from_numpy(memory.array("state")[starts]))
    assert (drawn.image is None) == ("image" not in seen)


def loaded(folder: Path) -> tuple[Memory, Memory]:
    """The same episodes, decoded and packed."""
    dataset = open_dataset(build(several(), folder / "data", card()))
    return dataset.load("ram"), dataset.load("packed")


def test_a_packed_memory_feeds_the_batches_of_a_decoded_one(tmp_path: Path) -> None:
    ram, packed = loaded(tmp_path)
    for way in (Gathered, Ahead):
        plain, fast = Gathered(stream(ram), CPU), way(stream(packed), CPU)
        assert all(same(plain, fast) for _ in range(20))
    assert isinstance(feed(stream(packed), CPU), Gathered)
    with pytest.raises(UsageError, match=r"compute.memory=ram"):
        Resident(stream(packed), CPU).next()


def test_a_packed_memory_is_gathered_ahead_on_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "Ahead", lambda batches, device, seen: ("ahead", batches.memory.packed))
    assert feed(stream(loaded(tmp_path)[1]), torch.device("cuda")) == ("ahead", True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_a_packed_memory_feeds_the_batches_of_a_decoded_one(tmp_path: Path) -> None:
    device, (ram, packed) = torch.device("cuda"), loaded(tmp_path)
    plain, fast = Gathered(stream(ram), device), feed(stream(packed), device)
    assert isinstance(fast, Ahead) and all(same(plain, fast) for _ in range(20))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("faster", FASTER)
def test_on_cuda_batches_are_the_oracles(faster: Callable[[BatchStream, torch.device], Feed]) -> None:
    device = torch.device("cuda")
    memory = EpisodeMemory().extend([played(0, 20), played(1, 30)])
    plain, fast = Gathered(stream(memory), device), faster(stream(memory), device)
    assert all(same(plain, fast) for _ in range(5))
    memory.append(played(2, 400))
    assert all(same(plain, fast) for _ in range(5))
