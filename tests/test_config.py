"""Settings, seeds, tasks and recipes: complete, frozen, refusing what does not exist."""

from __future__ import annotations

import itertools
import math

import pytest
from pydantic import ValidationError

from coworld_bench.config import PRESETS, Config, keys, override, parse_options, resolve
from coworld_bench.errors import UsageError
from coworld_bench.recipes import need_reference, recipe, reference_return
from coworld_bench.seeding import MAX_EPISODES, MAX_SEED, STREAMS, episode_seed, generator
from coworld_bench.tasks import PAPER_TASKS, EnvSpec, find_task


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("suite", ["metaworld", "robodesk", "dmc", "toy"])
def test_every_preset_resolves_for_every_suite(preset: str, suite: str) -> None:
    config = resolve(preset, suite)
    assert config.preset == preset
    assert config.budget.warmup < config.budget.updates
    assert config.online.prefill >= config.batch.length


def test_the_paper_preset_is_the_released_one() -> None:
    """Values of the released configuration that decide numbers; see the reference table in the README."""
    config = resolve("paper", "metaworld")
    assert (config.model.latent, config.model.stoch, config.model.deter, config.model.units) == ("gaussian", 50, 200, 400)
    assert (config.behaviour.discount, config.behaviour.trace, config.behaviour.horizon) == (0.99, 0.95, 15)
    assert (config.model.lr, config.behaviour.actor_lr, config.behaviour.critic_lr) == (3e-4, 8e-5, 8e-5)
    assert config.env.profile == "exact"
    assert resolve("paper", "dmc").model.reward_loss == 2.0


def test_options_replace_dotted_keys_and_nothing_else() -> None:
    config = override(resolve("quick", "metaworld"), {"model.deter": "64", "env.profile": "exact"})
    assert config.model.deter == 64 and config.env.profile == "exact"
    assert config.model.units == resolve("quick", "metaworld").model.units


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.detre=1", "did you mean model.deter"),
        ("model=1", "no world model '1'; known: code, dv2_dmc, table8"),
        ("model=tabel8", r"no world model 'tabel8'; did you mean table8\? known: code, dv2_dmc, table8 .*list presets"),
        ("optimiser=1", "no setting 'optimiser'"),
        ("nothing.at.all=1", "no setting"),
        ("model.deter=many", "model.deter"),
        ("model.latent=square", "model.latent"),
        ("preset=paper", "chosen with --preset"),
        ("evaluation.episodes=0", "greater than or equal to 1"),
        ("evaluation.every=0", "greater than or equal to 1"),
        ("budget.updates=-3", "greater than or equal to 1"),
        ("budget.updates=150", "warmup 150 must be less than updates 150"),
        ("batch.size=0", "greater than or equal to 1"),
        ("batch.length=1", "greater than or equal to 2"),
        ("model.lr=NaN", "finite number"),
        ("model.lr=0", "greater than 0"),
        ("behaviour.discount=1", "less than 1"),
        ("env.action_noise=NaN", "finite number"),
        ("env.rewards=best", "upstream"),
    ],
)
def test_wrong_options_are_refused(option: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        override(resolve("quick", "metaworld"), parse_options([option]))


def test_an_option_needs_an_equals_sign() -> None:
    with pytest.raises(UsageError, match="key=value"):
        parse_options(["model.deter"])


def test_options_of_the_environment_reach_it_and_name_the_run_once() -> None:
    config = override(resolve("quick", "robodesk"), parse_options(["env.rewards=fixed", "env.action_noise=0.3"]))
    spec = config.env.spec("robodesk/push_green")
    assert spec == EnvSpec("robodesk/push_green", action_repeat=2, rewards="fixed", action_noise=0.3)
    assert config.identity() == resolve("quick", "robodesk").identity(), "the EnvSpec beside it says what differs"
    with pytest.raises(UsageError, match="RoboDesk alone"):
        config.env.spec("metaworld/window_close")


@pytest.mark.parametrize("others", [[], ["compute.plain=true"]])
def test_where_pictures_lie_names_no_run(others: list[str]) -> None:
    plain, packed = (
        override(resolve("quick", "toy"), parse_options([*others, f"compute.memory={kind}"])) for kind in ("auto", "packed")
    )
    assert packed.compute.memory == "packed" and packed.identity() == plain.identity()
    assert ("compute" in packed.identity()) == bool(others)
    with pytest.raises(UsageError, match=r"compute.memory='disk'"):
        override(plain, {"compute.memory": "disk"})


@pytest.mark.parametrize("noise", [math.nan, math.inf, -0.1])
def test_impossible_noise_is_refused(noise: float) -> None:
    with pytest.raises(UsageError, match="action_noise"):
        EnvSpec("toy/point", action_noise=noise)


def test_success_that_does_not_exist_is_not_paid() -> None:
    with pytest.raises(UsageError, match="has none"):
        EnvSpec("dmc/walker_walk", sparse=True)


def test_settings_are_frozen_and_named() -> None:
    config = Config()
    with pytest.raises(ValidationError):
        config.preset = "quick"
    assert "model.deter" in keys(config) and "preset" not in keys(config)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean quick"):
        resolve("quik", "metaworld")


def test_episode_seeds_never_meet() -> None:
    """Collection, selection, evaluation and anchors are apart for every run seed, at both ends of every range."""
    corners = itertools.product(STREAMS, (0, 1, MAX_SEED - 1), (0, MAX_EPISODES - 1))
    seeds = [episode_seed(*corner) for corner in corners]
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) < 2**31
    with pytest.raises(UsageError):
        episode_seed("collect", MAX_SEED, 0)


def test_random_streams_depend_on_seed_and_purpose() -> None:
    draws = [generator(*key).random() for key in [(0, "a"), (0, "b"), (1, "a"), (0, "a", 1)]]
    assert len(set(draws)) == 4
    assert generator(0, "a").random() == draws[0]


def test_tasks_are_found_with_hyphens_and_unknown_ones_are_not() -> None:
    assert find_task("metaworld/button-press").id == "metaworld/button_press"
    assert find_task("metaworld/peg_insert_side").horizon == 500
    with pytest.raises(UsageError, match="did you mean"):
        find_task("metawrld/button_press")


@pytest.mark.parametrize(
    "options",
    [{"profile": "pretty"}, {"action_repeat": 3}, {"rewards": "fixed"}, {"action_noise": -1.0}, {"image_size": 4}],
)
def test_wrong_environment_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        EnvSpec("metaworld/button_press", **options)  # type: ignore[arg-type]


def test_an_environment_is_named_by_its_content() -> None:
    assert EnvSpec("metaworld/button-press").digest == EnvSpec("metaworld/button_press", action_repeat=1).digest
    assert EnvSpec("metaworld/button_press").digest != EnvSpec("metaworld/button_press", profile="exact").digest


def test_recipes_and_references_read_and_resolve() -> None:
    """Every pinned recipe must name settings that exist; every reference says how it was measured."""
    for task, preset in itertools.product(PAPER_TASKS, PRESETS):
        override(resolve(preset, find_task(task).suite), recipe(task, preset).options)
        reference = reference_return(task, preset)
        assert reference is not None and reference.value > 0 and len(reference.how) > 20
    with pytest.raises(UsageError, match="--reference-return"):
        need_reference("metaworld/peg_insert_side", "quick")
