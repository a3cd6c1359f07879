"""What must hold inside one file of a store. A check says each thing that is wrong; `warning: ` before what damages no
number. None needs torch, a simulator or the datasets."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from coworld_bench.config import PRESETS, usual_env
from coworld_bench.reporting.stores.records import PLAYED, fingerprint_of, run_name, run_stem
from coworld_bench.seeding import MAX_EPISODES, MAX_SEED, STREAMS, check_seed, episode_seed
from coworld_bench.tasks import SPARSE_REWARD, EnvSpec, find_task

Check = Callable[[dict[str, Any]], Iterator[Any]]
RULE = "mean over the checkpoints of the last half of training"
COUNTED = ("evaluations", "score", "dataset")  # where every number must be finite
NEAR = 1e-12  # what the order of a sum may change of it


def outcome(check: Check, content: dict[str, Any], quiet: bool = False) -> Iterator[Any]:
    """What a check finds; that it found no such value where one must be is a finding too, unless `quiet`."""
    try:
        yield from check(content)
    except KeyError as error:
        yield from [] if quiet else [f"{about(check)} cannot be checked: it lacks {error.args[0]!r}"]
    except Exception as error:
        # Any value may stand anywhere in a damaged file; none may end the report.
        yield from [] if quiet else [f"{about(check)} cannot be checked: {error or type(error).__name__}"]


def about(check: Check) -> str:
    return f"its {check.__name__.replace('_', ' ')}"


def name(content: dict[str, Any]) -> Iterator[str]:
    """The name is made from all that determines the result: any of it that was changed gives another."""
    stem, due = run_stem(content), run_name(content)
    check_seed(content["seed"])
    if content["preset"] not in PRESETS:
        yield f"there is no preset {content['preset']!r}"
    if not content["run"].startswith(f"{stem}--"):
        yield f"its name begins otherwise than its method, tasks and seed say: {stem}"
    elif content["run"] != due:
        yield (
            f"its name is not that of its settings, dataset, environment and source agents, which would be {due}: one of "
            "them was changed after the run was named"
        )


def environment(content: dict[str, Any]) -> Iterator[str]:
    if EnvSpec(**content["env"]).to_dict() != content["env"] or content["env"]["task"] != content["target"]:
        yield "its environment is not one of its target"
    if content["config"].get("preset", content["preset"]) != content["preset"]:
        yield f"its settings are of preset {content['config']['preset']!r}, not {content['preset']!r}"


def protocol(content: dict[str, Any]) -> Iterator[str]:
    if not is_count(content["protocol"], 1):
        yield f"its protocol is {content['protocol']!r}, which is no number of one"


def dataset(content: dict[str, Any]) -> Iterator[str]:
    """The fingerprint is one, and the dataset's name that of the target under the preset."""
    fingerprint = fingerprint_of(content)
    if not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
        yield f"its dataset's fingerprint is no SHA-256: {fingerprint!r}"
    if not isinstance(content["dataset"], dict):
        return
    told, due = content["dataset"]["id"], dataset_pattern(content)
    if not re.fullmatch(due, told):
        yield f"its dataset is called {told}, which is not {content['quality']} of its target and environment"
    if not is_count(content["dataset"]["episodes"], 1) or not is_count(content["dataset"]["rows"], 1):
        yield "its dataset has no episodes or no rows"


def dataset_pattern(content: dict[str, Any]) -> str:
    """What the dataset of a run may be called, of any version, as a regular expression."""
    (quality, at, view), preset = content["quality"].partition("@"), content["preset"]
    variant = EnvSpec(**content["env"]).variant(usual_env(content["target"], preset))
    named = "" if preset == "paper" else f"-{preset}"
    stem = f"{content['target']}/{quality}{named}" + (f"__{variant}" if variant else "")
    return rf"{re.escape(stem)}-v\d+{re.escape(at + view)}"


def sources(content: dict[str, Any]) -> Iterator[str]:
    """A card for every source agent, with the digest that names the run."""
    agents = content["source_agents"]
    if [agent["digest"] for agent in agents] != content["source_digests"]:
        yield "its source agents are not those that determine it"
    if [agent["task"] for agent in agents] != content["sources"]:
        yield "its source agents are not of its sources"


def checkpoints(content: dict[str, Any]) -> Iterator[str]:
    """Updates ascend as the settings say, and every checkpoint has as many episodes as they say."""
    updates = [evaluation["updates"] for evaluation in content["evaluations"]]
    if not updates or not all(is_count(each) for each in updates):
        yield "it has no checkpoints, or some without a number of updates"
    elif any(later <= earlier for earlier, later in pairwise(updates)):
        yield f"the updates of its checkpoints do not ascend: {', '.join(map(str, updates))}"
    elif updates != schedule(updates[-1], content["config"]["evaluation"]):
        yield f"its checkpoints are not where its settings put them: after {', '.join(map(str, updates))} updates"
    sizes = [len(evaluation["episodes"]) for evaluation in content["evaluations"]]
    due = content["config"]["evaluation"]["episodes"]
    if set(sizes) != {due}:
        yield f"its checkpoints have {sorted(set(sizes))} episodes, its settings say {due}"
    told = {frozenset(episode) for _, episode in episodes_of(content)}
    if len(told) > 1:
        odd = sorted(frozenset.union(*told) - frozenset.intersection(*told))
        yield f"some of its episodes tell {', '.join(odd)} and others do not"


def schedule(total: int, settings: dict[str, Any]) -> list[int]:
    """After how many updates a run of so many is evaluated, as `training.Run` does it."""
    early, late = settings["early_every"], settings["every"]
    due = [step for step in range(1, total) if step % (late if step > total / 2 else early) == 0]
    return [0, *due, total]


def critic(content: dict[str, Any]) -> Iterator[str]:
    """Where an episode is too short for a mean over its rows, the mean is that of row 0."""
    tail = math.ceil(math.log(0.01) / math.log(content["config"]["behaviour"]["discount"]))
    if EnvSpec(**content["env"]).env_steps - tail > 1:
        return
    for place, (_, episode) in enumerate(episodes_of(content)):
        for key in ("value_predicted", "value_realised"):
            mean = episode.get(f"{key}_mean", episode.get(key))
            if mean != episode.get(key):
                yield f"episode {place} has {key} {episode[key]!r} and {key}_mean {mean!r}, which must be equal"
                return


def episode_seeds(content: dict[str, Any]) -> Iterator[str]:
    """Episode k of a run of seed s has seed k of the evaluation stream of s, so that all differ and none is of another
    stream."""
    seeds = [episode["seed"] for _, episode in episodes_of(content)]
    repeated = sorted({seed for seed in seeds if seeds.count(seed) > 1}) if len(set(seeds)) < len(seeds) else []
    if repeated:
        yield f"episode seed {repeated[0]} occurs more than once"
    for place, seed in enumerate(seeds):
        due = episode_seed("evaluate", content["seed"], place)
        if seed != due:
            yield f"episode {place} has seed {seed!r} ({owner(seed)}), which must be {due}"
            return


def owner(seed: Any) -> str:
    """Whose seed it is: `evaluate stream of seed 4`."""
    if not is_count(seed):
        return "no seed"
    stream, rest = divmod(seed, MAX_SEED * MAX_EPISODES)
    names = {number: stream for stream, number in STREAMS.items()}
    return f"{names[stream]} stream of seed {rest // MAX_EPISODES}" if stream in names else "of no stream"


def episode_lengths(content: dict[str, Any]) -> Iterator[str]:
    """Episodes end at the horizon and nowhere else, and pay no more than their task can."""
    env = EnvSpec(**content["env"])
    task = find_task(env.task)
    most = SPARSE_REWARD if env.sparse else task.max_reward * task.horizon
    for place, (_, episode) in enumerate(episodes_of(content)):
        if episode["length"] != env.env_steps:
            yield f"episode {place} has {episode['length']!r} env steps, an episode of {task.id} has {env.env_steps}"
            return
        if not is_number(episode["return"]) or episode["success"] not in (True, False, None):
            yield f"episode {place} has return {episode['return']!r} and success {episode['success']!r}"
            return
        if abs(episode["return"]) > most:
            yield f"warning: episode {place} has return {episode['return']:g}; {task.id} pays at most {most:g}"


def score(content: dict[str, Any]) -> Iterator[str]:
    """Every number of the score follows from the episodes by the rule that it states."""
    told = content["score"]
    if told["rule"] != RULE:
        yield f"its score states a rule that this version does not know: {told['rule']!r}"
        return
    if not all(late(content["evaluations"])) or not late(content["evaluations"]):
        yield "a checkpoint in the last half of its training has no episode, or there is none"
        return
    for key, due in score_of(content["evaluations"]).items():
        if key not in told:
            yield f"its score lacks {key}"
        elif not near(told[key], due):
            yield f"its score has {key} {told[key]!r}, its episodes give {due!r}"


def score_of(evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    """The score, as `evaluation.score` makes it."""
    counted = late(evaluations)
    means = [np.mean([episode["return"] for episode in episodes]) for episodes in counted]
    wins = [episode["success"] for episodes in counted for episode in episodes]
    return {
        "mean": float(np.mean(means)),
        "checkpoints": len(counted),
        "episodes": sum(map(len, counted)),
        "sd_checkpoints": float(np.std(means)),
        "success": None if None in wins else float(np.mean(wins)),
    }


def late(evaluations: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The episodes of every checkpoint in the last half of training."""
    half = evaluations[-1]["updates"] / 2
    return [evaluation["episodes"] for evaluation in evaluations if evaluation["updates"] > half]


def near(told: Any, due: Any) -> bool:
    if due is None or told is None or not is_number(told):
        return told is due
    return math.isclose(told, due, rel_tol=NEAR, abs_tol=NEAR)


def numbers(content: dict[str, Any]) -> Iterator[str]:
    """All are finite; of a diagnostic it is good to know where one is not."""
    for key in sorted(content):
        bad = next(not_finite(key, content[key]), None)
        if bad is not None:
            yield "warning: " * (key not in COUNTED) + f"{bad[0]} is {bad[1]!r}"


def not_finite(path: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path, value
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []:
        yield from not_finite(f"{path}.{key}" if isinstance(value, dict) else f"{path}[{key}]", each)


def times(content: dict[str, Any]) -> Iterator[str]:
    """It ended after it began, and took at least as long as its evaluations."""
    told = content["time"]
    if told["finished"] < told["started"]:
        yield f"warning: it finished at {told['finished']}, before it started at {told['started']}"
    spent = [told[key] for key in ("wall_s", "cpu_s", "evaluation_s") if key in told]
    if min(spent) < 0 or told.get("evaluation_s", 0) > told["wall_s"] + 1:
        yield f"warning: it took {told['wall_s']} s, of which {told.get('evaluation_s')} s were its evaluations"


def policies(content: dict[str, Any]) -> Iterator[str]:
    """Anchors: as many successes as returns, all finite, in the environment of the task."""
    if EnvSpec(**content["env"]).to_dict() != content["env"] or content["env"]["task"] != content["task"]:
        yield "its environment is not one of its task"
    played = [kind for kind in PLAYED if kind in content]
    if not {"random", "constant", "untrained"} <= set(played):
        yield f"it tells of {', '.join(played) or 'nothing'} alone"
    for kind in played:
        returns = content[kind]["returns"]
        if not returns or not all(is_number(each) for each in returns):
            yield f"a return of the {kind} policy is no finite number"
        if len(content[kind]["successes"]) != len(returns):
            yield f"the {kind} policy has {len(returns)} returns and {len(content[kind]['successes'])} successes"


def episodes_of(content: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every episode with its checkpoint, in the order they were played."""
    return [(evaluation, episode) for evaluation in content["evaluations"] for episode in evaluation["episodes"]]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


CONFIG_CHECKS: tuple[Check, ...] = (name, environment, protocol, dataset)
RESULT_CHECKS: tuple[Check, ...] = (
    *CONFIG_CHECKS, sources, checkpoints, episode_seeds, episode_lengths, critic, score, numbers, times,
)  # fmt: skip
ANCHOR_CHECKS: tuple[Check, ...] = (policies,)
