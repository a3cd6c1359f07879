"""The row layout, and windows drawn from episodes in memory."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_episodes import played, several

from coworld_bench.data.episode import EpisodeBuilder
from coworld_bench.data.memory import BatchStream, EpisodeMemory
from coworld_bench.errors import UsageError


def filled(*env_steps: int) -> EpisodeMemory:
    return EpisodeMemory().extend(played(number, count) for number, count in enumerate(env_steps))


def test_a_row_holds_the_action_and_reward_that_led_to_it() -> None:
    builder = EpisodeBuilder()
    builder.start({"state": np.array([0.0])})
    builder.add(np.array([0.5, -0.5]), {"state": np.array([1.0])}, 2.0, False)
    builder.add(np.array([1.0, 1.0]), {"state": np.array([2.0])}, 3.0, True)
    episode = builder.finish({"seed": np.int64(7)})
    assert episode.state[:, 0].tolist() == [0, 1, 2]
    assert episode.action.tolist() == [[0, 0], [0.5, -0.5], [1, 1]]
    assert episode.reward.tolist() == [0, 2, 3]
    assert episode.success.tolist() == [0, 0, 1]
    assert (episode.rows, episode.env_steps, episode.ret, episode.succeeded) == (3, 2, 5.0, True)
    assert episode.image is None and episode.terminal is False and episode.meta == {"seed": 7}


def test_a_builder_keeps_no_reference_to_what_the_environment_reuses() -> None:
    builder, state, action = EpisodeBuilder(), np.zeros(1, np.float32), np.ones(1, np.float32)
    builder.start({"state": state})
    builder.add(action, {"state": state}, 0.0)
    state[:], action[:] = 9, 9
    episode = builder.finish({})
    assert episode.state.max() == 0 and episode.action.max() == 1


def test_an_episode_refuses_an_action_on_row_0_and_unequal_lengths() -> None:
    episode = played(0, 3)
    with pytest.raises(AssertionError, match="row 0"):
        dataclasses.replace(episode, action=np.ones_like(episode.action))
    with pytest.raises(AssertionError, match="state"):
        dataclasses.replace(episode, state=episode.state[1:])


def test_the_digest_changes_with_every_array_and_with_nothing_else() -> None:
    episode = played(1, 9)
    assert played(1, 9, other=1).digest == episode.digest
    for name, array in episode.arrays().items():
        changed = array.copy()
        changed[-1] = 1 - changed[-1]
        assert dataclasses.replace(episode, **{name: changed}).digest != episode.digest, name
    swapped = dataclasses.replace(episode, state=episode.action, action=episode.action)
    assert swapped.digest != episode.digest


def test_memory_grows_and_keeps_what_it_was_given() -> None:
    episodes = several()
    grown, reserved = EpisodeMemory(), EpisodeMemory(reserve=sum(episode.rows for episode in episodes))
    for memory in (grown, reserved):
        memory.extend(episodes)
        assert memory.lengths.tolist() == [15, 16, 17, 41] and memory.rows == 89 and memory.episodes == 4
        np.testing.assert_allclose(memory.returns, [episode.ret for episode in episodes])
    first, second = (memory.sample(np.random.default_rng(0), 40, 10) for memory in (grown, reserved))
    np.testing.assert_array_equal(first.image, second.image)


def test_a_batch_has_the_documented_shapes_and_types() -> None:
    batch = filled(20, 30).sample(np.random.default_rng(0), 5, 7)
    assert (batch.image.shape, batch.image.dtype) == ((5, 7, 16, 16, 3), np.uint8)
    assert (batch.state.shape, batch.state.dtype) == ((5, 7, 2), np.float32)
    assert (batch.action.shape, batch.action.dtype) == ((5, 7, 2), np.float32)
    assert (batch.reward.shape, batch.reward.dtype) == ((5, 7), np.float32)
    assert (batch.is_first.shape, batch.is_first.dtype) == ((5, 7), bool)


def test_every_window_lies_inside_one_episode_and_its_columns_belong_together() -> None:
    batch = filled(4, 7, 30).sample(np.random.default_rng(1), 500, 5)
    number, row = np.moveaxis(batch.state.astype(np.float64), -1, 0)
    assert (number == number[:, :1]).all() and (np.diff(row, axis=1) == 1).all()
    np.testing.assert_array_equal(batch.reward, np.where(row == 0, 0, 0.25 * (row - 1) + number))
    np.testing.assert_array_equal(batch.action[..., 0], np.where(row == 0, 0, np.sin(row - 1)).astype(np.float32))
    np.testing.assert_array_equal(batch.is_first, row == 0)
    assert batch.is_first.any()
    place = ((3 * number + row) % 12).astype(int)
    colours = batch.image[np.arange(500)[:, None], np.arange(5), place, place]
    np.testing.assert_array_equal(colours[..., 1], row % 256)


def test_a_lead_repeats_the_first_row_where_the_episode_has_none_before() -> None:
    """Windows of 2 rows with 3 before: at start t the rows are max(0, t - 3) ... t + 1."""
    memory = filled(20, 7, 30)
    starts, offsets = memory.draw(np.random.default_rng(0), 200, 2, 3)
    batch = memory.windows(starts, offsets, 2, 3)
    rows = np.maximum(offsets[:, None] + np.arange(-3, 2), 0)
    np.testing.assert_array_equal(batch.state[..., 1], rows)
    assert (batch.state[..., 0] == batch.state[:, :1, 0]).all(), "one episode each"
    whole = (starts - offsets)[:, None] + rows
    for name in ("image", "action", "reward"):
        np.testing.assert_array_equal(getattr(batch, name), memory.array(name)[whole], err_msg=name)
    np.testing.assert_array_equal(batch.is_first, rows == 0)
    assert set(range(4)) < set(offsets.tolist())


def test_every_start_is_reached_the_last_one_too_and_short_episodes_are_skipped() -> None:
    batch = filled(2, 4, 7).sample(np.random.default_rng(0), 2000, 5)  # 3, 5 and 8 rows
    starts = set(map(tuple, batch.state[:, 0].astype(int).tolist()))
    assert starts == {(1, 0), (2, 0), (2, 1), (2, 2), (2, 3)}


def test_sampling_is_uniform_over_episodes_before_it_is_over_starts() -> None:
    batch = filled(4, 99).sample(np.random.default_rng(0), 4000, 5)
    assert 0.45 < (batch.state[:, 0, 0] == 0).mean() < 0.55
    rows = batch.state[batch.state[:, 0, 0] == 1][:, 0, 1]
    assert np.histogram(rows, 4, (0, 96))[0].min() > 400


def test_a_window_longer_than_every_episode_is_refused_with_the_longest() -> None:
    with pytest.raises(UsageError, match="6 rows does not fit the longest episode, which has 5 rows"):
        filled(3, 4).sample(np.random.default_rng(0), 1, 6)


def test_states_alone_give_batches_without_pictures() -> None:
    memory = EpisodeMemory().extend([played(0, 9, pictures=False)])
    assert memory.sample(np.random.default_rng(0), 2, 3).image is None


def test_batch_k_depends_on_seed_and_k_alone() -> None:
    memory = filled(20, 30, 40)
    stream = BatchStream(memory, seed=3, batch=4, length=6)
    batches = [stream.next() for _ in range(5)]
    assert stream.state_dict() == {"seed": 3, "k": 5}
    later = BatchStream(memory, seed=3, batch=4, length=6, k=2)
    np.testing.assert_array_equal(later.next().state, batches[2].state)
    later.k = 4
    np.testing.assert_array_equal(later.next().image, batches[4].image)
    later.load_state_dict({"seed": 3, "k": 0})
    np.testing.assert_array_equal(later.next().state, batches[0].state)
    assert not np.array_equal(batches[0].state, batches[1].state)
    assert not np.array_equal(BatchStream(memory, 4, 4, 6).next().state, batches[0].state)
