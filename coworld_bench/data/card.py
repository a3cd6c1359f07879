"""What a dataset shows of itself: the text of its README and a contact sheet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coworld_bench.data.chunks import ImageReader, read_array
from coworld_bench.data.layout import STORE
from coworld_bench.tasks import EnvSpec

if TYPE_CHECKING:
    from PIL.Image import Image

    from coworld_bench.data.dataset import Dataset

EPISODES, FRAMES, LABEL = 6, 8, 96  # rows and columns of the sheet; pixels for the text beside a row


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
    return text


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


def contact_sheet(folder: Path) -> Image | None:
    """A few pictures of a few episodes, from the lowest return to the highest; None when there are no pictures."""
    store = folder / STORE
    if not (store / "frames/image").is_dir():
        return None
    starts, lengths, returns = (read_array(store / "episodes" / name) for name in ("start", "length", "ret"))
    order = np.argsort(returns, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(EPISODES, len(order))).astype(int)]
    reader = ImageReader(store / "frames/image")
    strips = []
    for episode in chosen:
        pictures = reader.rows(int(starts[episode]), int(lengths[episode]))
        shown = pictures[np.linspace(0, len(pictures) - 1, FRAMES).astype(int)]
        strips.append((f"episode {episode}\nreturn {returns[episode]:.1f}", np.concatenate(list(shown), axis=1)))
    return draw(strips)


def draw(strips: list[tuple[str, np.ndarray]]) -> Image:
    """One row of pictures per strip, its text to the left."""
    from PIL import Image, ImageDraw

    height, width = strips[0][1].shape[:2]
    sheet = Image.new("RGB", (LABEL + width, height * len(strips)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (text, strip) in enumerate(strips):
        sheet.paste(Image.fromarray(strip), (LABEL, row * height))
        pen.text((4, row * height + 4), text, fill="black")
    return sheet


def facts(dataset: Dataset) -> dict[str, Any]:
    """What `data show` tells of a dataset, in the order it is told."""
    card, quality, made = dataset.card, dataset.card.get("quality", {}), dataset.card.get("provenance", {})
    usual = EnvSpec(card["task"]).to_dict()
    seen = {"image": card["image"]} if card["image"] else {}
    successes = int(dataset.successes.sum())
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
        "reference return": None if reference is None else {"value": reference, "how": quality.get("reference_how")},
        "episodes": dataset.episodes,
        "env steps": dataset.rows - dataset.episodes,
        "return": card["returns"],
        # the reference is 100; a random policy is not subtracted, which returns of at least 0 hardly need
        "normalised score": None if not reference else round(100 * card["returns"]["mean"] / reference, 1),
        "successes": successes if card["has_success"] else None,
        "policies": card["policies"],
        "policy": card.get("policy", {}),
        "observation": seen | {"state": card["state_size"]},
        "action": card["action_size"],
        "seed": card.get("seed"),
        "fingerprint": dataset.fingerprint,
        "bytes": dataset.bytes,
        "versions": made.get("packages", {}),
        "commit": (made.get("git") or {}).get("commit"),
        "machine": made.get("machine", {}),
        "renderer": made.get("gl"),
        "licence": card["license"],
        "folder": str(dataset.folder),
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
