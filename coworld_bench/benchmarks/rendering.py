"""Frames per CPU-second of every render profile, and how near its pictures are to the exact ones."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from coworld_bench.devices import prepare_cpu
from coworld_bench.envs import make_env
from coworld_bench.envs.mujoco_scene import MujocoScene
from coworld_bench.envs.rendering import QUALITY, Quality, Renderer
from coworld_bench.tasks import find_task

TASKS = ["metaworld/window_close", "robodesk/push_green", "dmc/walker_walk", "dmc/cheetah_run"]
PROFILES = ("exact", "near", "fast")
EPISODE = 40  # frames played with random actions after each reset
WINDOW = 7  # pixels of SSIM's window


def measure(tasks: list[str] | None = None, frames: int = 200, repeats: int = 1) -> dict[str, Any]:
    """A row per task and profile: frames per CPU-second (medians over frames, profiles taking turns), ratio, SSIM."""
    prepare_cpu()
    rows = []
    for task in tasks or TASKS:
        qualities = {profile: QUALITY[find_task(task).suite, profile] for profile in PROFILES}
        rows += compare(task, qualities, frames * repeats)
    notes = [
        f"{frames * repeats} frames of random actions held for 5 decisions; every profile draws the same states in turn.",
        "`exact` is the suite's own picture, pixel for pixel; SSIM is against it (7 x 7 window, mean over channels).",
        "frames per CPU-second: one over the median time of a frame, drawing alone, without physics.",
    ]
    return {"rows": rows, "notes": notes}


def compare(task: str, qualities: dict[str, Quality], frames: int) -> list[dict[str, Any]]:
    """Draw the same states in every quality; the first of them is what the others are held against."""
    env = make_env(task, profile="exact")
    scene = env.simulator
    assert isinstance(scene, MujocoScene), f"{task} is not drawn by MuJoCo"
    renderers: dict[str, Renderer] = {}
    spent: dict[str, list[float]] = {name: [] for name in qualities}
    likeness: dict[str, list[float]] = {name: [] for name in qualities}
    rng = np.random.default_rng(0)
    try:
        for frame in range(frames):
            if frame % EPISODE == 0:
                env.reset(seed=frame)
            if frame % 5 == 0:
                action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
            scene.act(action)
            model, data = scene.physics()
            if frame % EPISODE == 0 and any(renderer.model is not model for renderer in renderers.values()):
                close(renderers)
            exact = None
            for name, quality in qualities.items():
                if name not in renderers:
                    renderers[name] = Renderer(model, scene.view, quality, env.env_spec.image_size)
                    renderers[name].image(data)
                began = time.process_time()
                picture = renderers[name].image(data)
                spent[name].append(time.process_time() - began)
                exact = picture if exact is None else exact
                likeness[name].append(ssim(exact, picture))
    finally:
        close(renderers)
        env.close()
    first = statistics.median(next(iter(spent.values())))
    return [
        {
            "task": task,
            "profile": name,
            "frames_per_cpu_s": round(1 / statistics.median(spent[name]), 1),
            "ratio": round(first / statistics.median(spent[name]), 1),
            "ssim_mean": round(statistics.fmean(likeness[name]), 3),
            "ssim_min": round(min(likeness[name]), 3),
        }
        for name in qualities
    ]


def close(renderers: dict[str, Renderer]) -> None:
    for renderer in renderers.values():
        renderer.close()
    renderers.clear()


def ssim(picture: np.ndarray, other: np.ndarray) -> float:
    """Structural similarity of two uint8 pictures [H, W, 3] (Wang et al. 2004): 7 x 7 uniform window, borders left out."""
    from scipy.ndimage import uniform_filter

    x, y = picture.astype(np.float64), other.astype(np.float64)
    size, pad = (WINDOW, WINDOW, 1), WINDOW // 2
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    mean_x, mean_y = uniform_filter(x, size), uniform_filter(y, size)
    var_x = unbiased * (uniform_filter(x * x, size) - mean_x**2)
    var_y = unbiased * (uniform_filter(y * y, size) - mean_y**2)
    both = unbiased * (uniform_filter(x * y, size) - mean_x * mean_y)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = ((2 * mean_x * mean_y + c1) * (2 * both + c2)) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(found[pad:-pad, pad:-pad].mean())
