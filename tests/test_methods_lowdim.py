"""A source that sees low-dimensional states alone: its networks, its agent, and CoWorld with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import striped_episode
from torch import Tensor
from toy_runs import job_on_point, small_config, source_agent, striped_memory, take_turns

from coworld_bench.anchors import anchors_path
from coworld_bench.checkpoints import load_state, save_state
from coworld_bench.cli import main
from coworld_bench.collecting import plan_collection
from coworld_bench.config import Config, ModelConfig, override, resolve
from coworld_bench.coworld import CoWorld, CoWorldSettings
from coworld_bench.coworld_multi import CoWorldMulti, CoWorldMultiSettings
from coworld_bench.data.memory import EpisodeMemory
from coworld_bench.data.staging import Staging
from coworld_bench.dreamer import AgentSpec, DreamerAgent, read_metrics
from coworld_bench.envs import domain_of, make_env
from coworld_bench.envs.toy import Toy
from coworld_bench.errors import UsageError
from coworld_bench.methods import SourceAgent
from coworld_bench.nets import StateDecoder, StateEncoder, embedding_size, image_encoder
from coworld_bench.online import OnlineAgent
from coworld_bench.run_spec import RunSpec
from coworld_bench.sources import SourceSpec
from coworld_bench.tasks import EnvSpec

STATES = {"env.observation": "state"}
SHORT = {"warm_rounds": 1, "epochs": 2, "source_env_steps_per_round": 50, "source_env_steps_per_epoch": 50}
WIDE = 6  # what states are padded to: more than the toy's 4


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceAgent:
    return source_agent("toy/point_mirrored", small_config(), tmp_path_factory.mktemp("source"), state_input=WIDE)


def make(source: SourceAgent, folder: Path, updates: int = 8, **settings) -> CoWorld:
    """CoWorld on striped episodes, whose states have 2 components; the target's domain says WIDE."""
    job = job_on_point(small_config(budget_updates=str(updates), budget_warmup="2"), (source,), folder)
    return CoWorld(CoWorldSettings(**SHORT | settings), replace(job, target=replace(job.target, state=WIDE)))


def state_agent(config: Config, states: int = 4, **spec) -> DreamerAgent:
    return DreamerAgent(config, AgentSpec(2, 3, 0.5, observes="state", state_input=states, **spec), 0)


# Networks


@pytest.mark.parametrize("options", [{"encoder": "cnn", "depth": 2}, {"encoder": "cnn", "depth": 48}, {"encoder": "patch"}])
def test_an_encoder_of_states_ends_in_as_many_features_as_that_of_images(options: dict) -> None:
    """Stage A's softmax is over both."""
    config = ModelConfig(**options)
    encoder = StateEncoder(39, config.units, embedding_size(config))
    embed = encoder(torch.randn(5, 39))
    assert embed.shape == (5, image_encoder(config).size) and (embed > -1).all()  # after an ELU
    sizes = [(layer.in_features, layer.out_features) for layer in encoder.layers if isinstance(layer, torch.nn.Linear)]
    assert sizes == [(39, 400), (400, 400), (400, 400), (400, 400), (400, embedding_size(config))]


def test_an_encoder_of_states_computes_in_float32_whatever_the_rest_does() -> None:
    encoder, state = StateEncoder(4, 16, 8), torch.full((1, 4), 0.6001)
    expected = encoder(state)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder(state), expected)


def test_the_likelihood_of_states_by_hand() -> None:
    """-ln N(y | x, 1) less its constant, summed over components and averaged over rows."""
    decoder = StateDecoder(3, 8, 2)
    decoder.forward = lambda _: torch.tensor([[1.0, 2.0], [0.0, -1.0]])  # type: ignore[method-assign]
    state = torch.tensor([[0.0, 4.0], [0.5, -1.0]])
    assert decoder.loss(torch.zeros(2, 3), state).item() == pytest.approx(((1 + 4) / 2 + 0.25 / 2) / 2)
    assert StateDecoder(3, 8, 2)(torch.zeros(2, 3)).shape == (2, 2)


@pytest.mark.parametrize("scale", [1.0, 25.0])
def test_the_world_models_loss_has_the_states_likelihood(scale: float, tiny: Config) -> None:
    agent = state_agent(override(tiny, {"model.state_loss": str(scale)}), 4)
    rows = agent.rows(striped_memory().sample(np.random.default_rng(0), 3, 6))
    seen = agent.see(rows)
    terms = agent.model.terms(rows, seen, None)
    predicted = agent.model.decoder(seen.state.feature.flatten(0, 1)).detach().double()
    error = (predicted - rows.state.flatten(0, 1).double()).square().sum(1) / 2
    assert set(terms) == {"state", "reward", "kl"}
    assert terms["state"].item() == pytest.approx(scale * error.mean().item(), rel=1e-5)


# Padding


def test_states_are_padded_with_zeros(tiny: Config) -> None:
    agent = state_agent(tiny, WIDE)
    batch = striped_memory().sample(np.random.default_rng(0), 3, 6)
    rows = agent.rows(batch)
    assert rows.image is None and rows.state.shape == (6, 3, WIDE)
    assert torch.equal(rows.state[..., :2], torch.from_numpy(batch.state).transpose(0, 1))
    assert not rows.state[..., 2:].any()

    def acted(state: np.ndarray) -> np.ndarray:
        return agent.act(state, agent.initial(3), torch.Generator().manual_seed(0))[0]

    state = batch.state[:, 0]
    assert np.array_equal(acted(state), acted(np.pad(state, ((0, 0), (0, WIDE - 2)))))
    assert not np.array_equal(acted(state), acted(np.pad(state, ((0, 0), (0, WIDE - 2)), constant_values=1.0)))


def test_rows_of_both_domains_lie_side_by_side_without_pictures(tiny: Config) -> None:
    batch = striped_memory().sample(np.random.default_rng(0), 3, 6)
    own = state_agent(tiny, WIDE).rows(batch)
    target = DreamerAgent(tiny, AgentSpec(2, 3, 0.5, state_input=WIDE), 0).rows(batch)
    assert target.image is not None and target.state is not None
    both = own.joined(target)
    assert both.image is None and both.state.shape == (6, 6, WIDE) and both.reward.shape == (6, 6)


def test_only_where_a_source_sees_states_alone_do_batches_carry_them() -> None:
    config, point = small_config(), domain_of(EnvSpec("toy/point"))
    blind = domain_of(EnvSpec("toy/point_mirrored", observation="state"))
    assert AgentSpec.of(point, config, (point,)).seen == ("image",)
    assert AgentSpec.of(point, config, (blind,)).seen == ("image", "state")
    own = AgentSpec.of(blind, config).widened(2, WIDE)
    assert (own.seen, own.state_input) == (("state",), WIDE)
    assert AgentSpec.of(point, config).widened(2, WIDE).state_input == 0


def test_both_agents_of_a_run_pad_to_the_larger_state_of_both_domains() -> None:
    """Meta-World's 39 against RoboDesk's 76."""
    tasks = "robodesk/push_green", "metaworld/button_press"
    (spec,) = RunSpec("coworld", tasks[0], (tasks[1],), source_options=STATES).plan().source_specs()
    states = [domain_of(EnvSpec(task, observation="state")).state for task in tasks]
    assert spec.state_input == max(states) > min(states)
    assert spec.env.observation == "state" and domain_of(spec.env).image == ()
    target = AgentSpec.of(domain_of(EnvSpec(tasks[0])), spec.config, (domain_of(spec.env),))
    assert target.state_input == spec.state_input and target.observes == "image"


# The source agent


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(self: Toy) -> np.ndarray:
        raise AssertionError("a picture was drawn")

    monkeypatch.setattr(Toy, "image", draw)


@pytest.mark.usefixtures("no_drawing")
def test_a_source_agent_of_states_never_draws(tmp_path: Path) -> None:
    """It plays and learns; an agent of pictures cannot even begin."""
    source_agent("toy/point", small_config(), tmp_path, state_input=WIDE)
    assert all(episode.image is None for episode in Staging(tmp_path / "episodes", read_only=True))
    with pytest.raises(AssertionError, match="was drawn"):
        make_env("toy/point").reset(seed=0)


def at_random(tmp_path: Path, options: dict[str, str], episodes: int) -> OnlineAgent:
    """An agent of states that has seen random episodes and learnt nothing yet."""
    config = override(resolve("quick", "toy"), options)
    domain = domain_of(EnvSpec("toy/point", observation="state"))
    online = OnlineAgent(domain, config, 0, Staging(tmp_path / "episodes"), state_input=WIDE)
    for _ in range(episodes):
        online.prefill_episode()
    return online


@pytest.mark.usefixtures("no_drawing")
def test_its_world_model_learns_the_states_and_their_rewards(tmp_path: Path) -> None:
    """Both errors fall below half of what an untrained model makes of the same random episodes."""
    small = {"model.units": "64", "model.deter": "64", "model.hidden": "64", "batch.size": "8", "model.lr": "3e-3"}
    online = at_random(tmp_path, small | {"model.state_loss": "10"}, 10)
    metrics = [read_metrics(online.agent.update_model(online.next_rows())[1]) for _ in range(120)]
    for term in ("model/state", "model/reward"):
        first, last = (np.mean([turn[term] for turn in part]) for part in (metrics[:3], metrics[-20:]))
        assert last < 0.5 * first, (term, first, last)
    online.close(), online.staging.close()


@pytest.mark.slow
@pytest.mark.usefixtures("no_drawing")
def test_a_source_agent_of_states_learns_to_act(tmp_path: Path) -> None:
    """From forty random episodes it learns to do at least 1.5 times as well as they did, on episodes it has not seen."""
    online = at_random(tmp_path, {"model.state_loss": "10"}, 40)
    by_chance = np.mean([episode.ret for episode in online.staging])
    for _ in range(500):
        online.update()
    returns = [played(online.agent, 1000 + index) for index in range(10)]
    assert np.mean(returns) > 1.5 * by_chance, (np.mean(returns), by_chance)
    online.close(), online.staging.close()


def played(agent: DreamerAgent, seed: int) -> float:
    """The return of one deterministic episode."""
    env, generator = make_env("toy/point", observation="state"), torch.Generator().manual_seed(seed)
    (observation, _), carry, total, truncated = env.reset(seed=seed), agent.initial(), 0.0, False
    while not truncated:
        action, carry = agent.act(observation["state"][None], carry, generator)
        observation, reward, _, truncated, _ = env.step(action[0])
        total += reward
    return total


# CoWorld with it


def by_hand(encoder: StateEncoder, state: Tensor) -> Tensor:
    """The encoder in float64, written out."""
    x = state.double()
    for layer in encoder.layers:
        if isinstance(layer, torch.nn.Linear):
            x = x @ layer.weight.double().T + layer.bias.double()
            x = torch.where(x > 0, x, torch.exp(x) - 1)
    return x


def test_stage_a_aligns_with_what_the_source_makes_of_the_datasets_states(source: SourceAgent, tmp_path: Path) -> None:
    """β2 Σ_t KL[softmax(e_source(state)) ‖ softmax(e_target(image))] and its gradient, in float64."""
    learner = make(source, tmp_path, beta2=3.0)
    rows = learner.next_rows()
    assert rows.state.shape == (6, 3, WIDE) and not rows.state[..., 2:].any()
    seen = learner.agent.see(rows)
    term = learner.align_states(seen, {})["align"]
    theirs = by_hand(learner.source.agent.model.encoder, rows.state.detach())
    ours = seen.embed.detach().double().requires_grad_()
    p = theirs.exp() / theirs.exp().sum(-1, keepdim=True)
    expected = 3 * (p * (p.log() - ours + ours.exp().sum(-1, keepdim=True).log())).sum() / 3  # over a batch of 3
    assert term.item() == pytest.approx(expected.item(), rel=1e-4)
    (gradient,) = torch.autograd.grad(term, seen.embed, retain_graph=True)
    (by_autograd,) = torch.autograd.grad(expected, ours)
    assert torch.allclose(gradient.double(), by_autograd, rtol=1e-3, atol=1e-7)
    parameters = list(learner.source.agent.model.encoder.parameters())
    assert not any(part is not None for part in torch.autograd.grad(term, parameters, allow_unused=True))
    learner.source.close()


def informative(seed: int):
    """An episode whose reward is in its state, and of which the source knows nothing."""
    episode = striped_episode(seed)
    place = episode.state[:, :1] / 63
    return replace(
        episode, state=np.concatenate([place, 1 - place], 1), reward=3 * (episode.reward > 0.5).astype(np.float32)
    )


def test_stage_b_relabels_from_states(source: SourceAgent, tmp_path: Path) -> None:
    """With all weight on target rewards (η 0, k 1) the source's head must learn rewards that only target states tell."""
    learner = make(source, tmp_path, eta_first=0.0, eta_last=0.0, k=1.0)
    learner.batches.memory = EpisodeMemory().extend(informative(seed) for seed in range(3))

    def error() -> float:
        rows = learner.next_rows()
        with torch.no_grad():
            feature = learner.source.agent.see(rows._replace(image=None)).state.feature
            return float((learner.source.agent.model.predict_reward(feature) - rows.reward).square().mean())

    before = np.mean([error() for _ in range(5)])
    for _ in range(120):
        learner.update_source()
    assert np.mean([error() for _ in range(5)]) < 0.5 * before
    learner.source.close()


def test_values_only_neither_aligns_nor_relabels_and_keeps_the_constraint(source: SourceAgent, tmp_path: Path) -> None:
    learner = make(source, tmp_path, lowdim="values_only")
    metrics = [read_metrics(dict(learner.turn())) for _ in range(5)]
    assert not any("align" in name for turn in metrics for name in turn)
    assert any(turn.get("critic/constraint", 0) for turn in metrics)
    drawn = learner.batches.k
    learner.source.agent.behaviour_updates += 1
    update, told = learner.source.update, {}
    learner.source.update = lambda *terms, **more: told.update(terms=terms, **more) or update(*terms, **more)
    learner.update_source()
    assert told == {"terms": ()} and learner.batches.k == drawn
    assert learner.report() == {"lowdim": "values_only"}
    learner.source.close()


def test_with_states_it_aligns_and_says_so(source: SourceAgent, tmp_path: Path) -> None:
    learner = make(source, tmp_path)
    metrics = take_turns(learner, 5)
    assert metrics[0]["coworld/alignment_loss"] > 0 and any(name.startswith("source/model/state") for name in metrics[2])
    drawn = learner.batches.k
    learner.update_source()
    assert learner.batches.k == drawn + 1
    assert learner.report() == {"lowdim": "state"}
    learner.source.close()


def test_a_source_that_sees_pictures_leaves_no_report(tmp_path: Path) -> None:
    seeing = source_agent("toy/point_mirrored", small_config(), tmp_path / "source")
    learner = make(seeing, tmp_path, lowdim="values_only")
    assert learner.report() == {} and learner.settings.beta2 == 1.0
    assert learner.next_rows().state is None
    learner.source.close()


@pytest.mark.parametrize("lowdim", ["state", "values_only"])
def test_a_stored_run_goes_on_as_if_never_stopped(lowdim: str, source: SourceAgent, tmp_path: Path) -> None:
    whole, stopped = (make(source, tmp_path / name, lowdim=lowdim) for name in ("whole", "stopped"))
    assert take_turns(whole, 5) == take_turns(stopped, 5)
    save_state(tmp_path / "state.pt", stopped.state_dict())
    stopped.source.staging.close()
    restored = make(source, tmp_path / "stopped", lowdim=lowdim)
    restored.load_state_dict(load_state(tmp_path / "state.pt"))
    assert take_turns(restored, 4) == take_turns(whole, 4)


def test_several_sources_of_states(source: SourceAgent, tmp_path: Path) -> None:
    other = source_agent("toy/point", small_config(), tmp_path / "source", 1, state_input=WIDE)
    job = job_on_point(small_config(budget_updates="8", budget_warmup="2"), (source, other), tmp_path)
    learner = CoWorldMulti(CoWorldMultiSettings(**SHORT), replace(job, target=replace(job.target, state=WIDE)))
    while learner.updates < learner.total:
        assert np.isfinite(list(read_metrics(dict(learner.turn())).values())).all()
    assert learner.report()["lowdim"] == "state" and sum(learner.report()["share"].values()) == pytest.approx(1)
    options = {"coworld_multi.lowdim": "values_only"}
    with pytest.raises(UsageError, match=r"lowdim.*'state'"):
        RunSpec("coworld_multi", "toy/point", ("toy/point_mirrored",), options=options).plan()


# How it is asked for


@pytest.mark.parametrize("method", ["dv2_finetune", "dv2_finetune_ewc", "multitask_dv2", "lompo_finetune"])
def test_methods_that_need_pictures_of_the_source_say_so(method: str) -> None:
    spec = RunSpec(method, "toy/point", ("toy/point_mirrored",), preset="smoke", source_options=STATES)
    with pytest.raises(UsageError, match=f"{method} needs a source that sees pictures"):
        spec.plan()


def test_methods_without_a_source_are_left_alone() -> None:
    RunSpec("offline_dv2", "toy/point", ("toy/point_mirrored",), source_options=STATES).plan()


def test_the_target_and_its_data_need_pictures() -> None:
    with pytest.raises(UsageError, match="--source-option"):
        RunSpec("coworld", "toy/point", ("toy/point_mirrored",), options=STATES).plan()
    with pytest.raises(UsageError, match="--source-option"):
        plan_collection("toy/point", preset="smoke", options=STATES)
    with pytest.raises(UsageError, match="--source-option"):
        anchors_path("toy/point", "smoke", Path(), STATES)


def source_of(**asked) -> SourceSpec:
    return RunSpec("coworld", "toy/point", ("toy/point_mirrored",), **asked).plan().source_specs()[0]


def test_a_source_of_states_has_a_name_of_its_own_and_one_of_pictures_keeps_its() -> None:
    plain, blind = source_of(), source_of(source_options=STATES)
    weighed = source_of(source_options=STATES, options={"model.state_loss": "7"})
    assert len({plain.digest, blind.digest, weighed.digest, replace(blind, state_input=9).digest}) == 4
    assert replace(plain, state_input=9).digest == plain.digest
    assert source_of(options={"model.state_loss": "7"}).digest == plain.digest  # it reads no states


def test_lowdim_names_a_run_only_where_it_was_changed() -> None:
    assert "lowdim" not in CoWorldSettings().identity()
    assert CoWorldSettings(lowdim="values_only").identity()["lowdim"] == "values_only"


def command(*words: object, code: int = 0) -> None:
    assert main([str(word) for word in words]) == code


def test_train_through_the_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COWORLD_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COWORLD_BENCH_RUNS", str(tmp_path / "runs"))
    command("collect", "toy/point", "--preset", "smoke", "--reference-return", 3)
    pair = "--target", "toy/point", "--source", "toy/point_mirrored", "--preset", "smoke"
    states = "--source-option", "env.observation=state"
    results = []
    for lowdim in ("state", "values_only"):
        capsys.readouterr()
        command("train", "coworld", *pair, *states, "-o", f"coworld.lowdim={lowdim}", "--json")
        results.append(json.loads(capsys.readouterr().out))
    assert [result["method_report"] for result in results] == [{"lowdim": "state"}, {"lowdim": "values_only"}]
    assert results[0]["source_options"] == STATES and results[0]["run"] != results[1]["run"]
    assert results[0]["source_agents"] == results[1]["source_agents"]
    assert "alignment_loss" in results[0]["diagnostics"] and "alignment_loss" not in results[1]["diagnostics"]
    command("evaluate", tmp_path / "runs" / results[0]["run"], "--episodes", 1)
    capsys.readouterr()
    command("train", "dv2_finetune", *pair, *states, code=2)
    assert "needs a source that sees pictures" in capsys.readouterr().err
