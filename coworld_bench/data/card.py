"""What a dataset says of itself: the text of its README, and the facts that are told about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from coworld_bench.data.shared import shared_file
from coworld_bench.data.subsets import named_rules
from coworld_bench.tasks import EnvSpec

if TYPE_CHECKING:
    from coworld_bench.data.dataset import Dataset


def card_text(card: Mapping[str, Any]) -> str:
    """The README of a dataset, as Markdown."""
    parts = [front_matter(card), f"# {card['dataset_id']}", origin(card), numbers(card), usage(card), details(card)]
    return "\n\n".join(parts) + "\n"


def front_matter(card: Mapping[str, Any]) -> str:
    lines = [f"license: {card['license'].lower()}", "task_categories: [reinforcement-learning]"]
    return "\n".join(["---", *lines, "tags: [offline-rl, coworld-bench]", "---"])


def origin(card: Mapping[str, Any]) -> str:
    """How the episodes were made, and whether the rule that ends the collection was met."""
    quality, policy = card.get("quality", {}), card.get("policy", {})
    text = (
        f"Episodes of `{card.get('task', '?')}`, quality `{quality.get('label', '?')}`, collected with preset "
        f"`{card.get('preset', '?')}` and seed {card.get('seed', '?')} by {policy.get('algo', 'an unnamed policy')}."
    )
    if quality.get("rule"):
        reached = "was reached" if quality.get("fired") else "was **not reached**: the collection ran out of budget"
        text += (
            f"\n\nRule: {quality['rule']} (reference return {quality.get('reference', 0):.1f}, "
            f"threshold {quality.get('threshold', 0):.1f}). It {reached}."
        )
    if "repaired" in card:
        text += f"\n\n**Repaired**: {of_repair(card['repaired'])}."
    return text


def of_repair(lost: Mapping[str, Any]) -> str:
    """What a repair could not save."""
    forgotten = f", and of those that are left {', '.join(lost['forgotten'])}" if lost["forgotten"] else ""
    return (
        f"lost {lost['episodes_lost']} episodes from the end{forgotten}; its fingerprint was {lost['from'] or 'lost too'}"
    )


def numbers(card: Mapping[str, Any]) -> str:
    returns = card["returns"]
    observation = f"pictures {'×'.join(map(str, card['image']))} uint8 and " if card["image"] else ""
    success = f"{100 * card['success_rate']:.1f} %" if card["has_success"] else "the task has none"
    rows = {
        "episodes": card["episodes"],
        "rows": card["rows"],
        "observation": f"{observation}state float32 [{card['state_size']}]",
        "action": f"float32 [{card['action_size']}] in [-1, 1]",
        "return": f"mean {returns['mean']:.2f}, from {returns['min']:.2f} to {returns['max']:.2f}",
        "episodes with success": success,
        "episodes by policy": ", ".join(f"{name or 'unknown'} {count}" for name, count in card["policies"].items()),
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def usage(card: Mapping[str, Any]) -> str:
    return (
        "```python\nfrom coworld_bench import open_dataset\n\n"
        f'dataset = open_dataset("{card["dataset_id"]}")\n'
        "episode = dataset.episode(0)\nmemory = dataset.load()\n```\n\n"
        f"Timing: {card['timing']}. The arrays are plain Zarr v3 under `data.zarr`; `manifest.json` names every file "
        "with its SHA-256."
    )


def details(card: Mapping[str, Any]) -> str:
    """The card itself, for machines; the learning curve is left to the manifest."""
    quality = {name: value for name, value in card.get("quality", {}).items() if name != "curve"}
    shown = dict(card) | {"quality": quality}
    return "## Card\n\n```json\n" + json.dumps(shown, indent=2, sort_keys=True) + "\n```"


def facts(dataset: Dataset) -> dict[str, Any]:
    """What `data show` tells of a dataset, in the order it is told."""
    card, quality, made = dataset.card, dataset.card.get("quality", {}), dataset.card.get("provenance", {})
    usual = EnvSpec(card["task"]).to_dict()
    seen = {"image": card["image"]} if card["image"] else {}
    successes, shared = int(dataset.successes.sum()), shared_file(dataset) if card["image"] else None
    reference = quality.get("reference")
    return {
        "id": dataset.id,
        "task": card["task"],
        "environment": {name: value for name, value in card["env_spec"].items() if value != usual[name]},
        "quality": quality.get("label"),
        "preset": card.get("preset"),
        "rule": quality.get("rule"),
        "evidence": evidence(quality),
        "rule met": quality.get("fired"),
        "repaired": of_repair(card["repaired"]) if "repaired" in card else None,
        "reference return": None if reference is None else {"value": reference, "how": quality.get("reference_how")},
        "part": card.get("subset"),
        "subsets": named_rules(dataset),
        "episodes": dataset.episodes,
        "env steps": dataset.rows - dataset.episodes,
        "return": card["returns"],
        # the reference is 100; a random policy is not subtracted, which returns of at least 0 hardly need
        "normalised score": None if not reference else round(100 * card["returns"]["mean"] / reference, 1),
        "successes": successes if card["has_success"] else None,
        "policies": card["policies"],
        "policy": card.get("policy", {}),
        "observation": seen | {"state": card["state_size"]},
        "pictures resized from": card.get("resized_from"),
        "action": card["action_size"],
        "seed": card.get("seed"),
        "fingerprint": dataset.fingerprint,
        "bytes": dataset.bytes,
        "imported from": made.get("imported", {}).get("format"),
        "left out on import": ", ".join(made.get("imported", {}).get("left_out", [])) or None,
        "versions": made.get("packages", {}),
        "commit": (made.get("git") or {}).get("commit"),
        "machine": made.get("machine", {}),
        "renderer": made.get("gl"),
        "licence": card["license"],
        "folder": str(dataset.folder),
        "shared pictures": None if shared is None else str(shared),
    }


def evidence(quality: Mapping[str, Any]) -> dict[str, Any] | None:
    """The evaluation that fired the rule, or the best one where none did."""
    curve = quality.get("curve")
    if not curve:
        return None
    point = curve[-1] if quality.get("fired") else max(curve, key=lambda point: point["mean"])
    return {name: point[name] for name in ("env_steps", "updates", "mean", "returns")} | {
        "threshold": quality.get("threshold"), "evaluations": len(curve)
    }  # fmt: skip


def told(found: Mapping[str, Any]) -> dict[str, str]:
    """The facts in words; what is not known is left out."""
    return {fact: WORDS.get(fact, in_words)(value) for fact, value in found.items() if value is not None and value != {}}


def in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {in_words(part)}" for name, part in value.items() if part is not None)
    return " x ".join(map(str, value)) if isinstance(value, list) else str(value)


def of_evidence(point: Mapping[str, Any]) -> str:
    returns = ", ".join(f"{value:.0f}" for value in point["returns"])
    return (
        f"at {point['env_steps']} env steps and {point['updates']} updates, evaluation {point['evaluations']}: mean "
        f"{point['mean']:.1f} against the threshold {point['threshold']:.1f} (episodes {returns})"
    )


WORDS: dict[str, Callable[[Any], str]] = {
    "evidence": of_evidence,
    "return": lambda returns: f"mean {returns['mean']:.2f}, from {returns['min']:.2f} to {returns['max']:.2f}",
    "reference return": lambda reference: f"{reference['value']:g} ({reference['how']})",
    "normalised score": lambda score: f"{score} (the reference return is 100, a return of 0 is 0)",
    "bytes": lambda count: f"{count:,} ({count / 1e6:.1f} MB)",
}
