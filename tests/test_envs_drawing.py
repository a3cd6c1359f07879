"""Our own drawing in layers, against MuJoCo's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from coworld_bench.benchmarks.rendering import ssim
from coworld_bench.envs import make_env
from coworld_bench.envs.drawing.shapes import Shape, sheet
from coworld_bench.envs.drawing.simpler import simpler
from coworld_bench.envs.rendering import Quality, Renderer, View, choose_backend

WORLD = """
<mujoco>
  <visual><global offwidth="64" offheight="64"/></visual>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1=".3 .5 .7" rgb2="0 0 0" width="64" height="64"/>
    <texture name="grid" type="2d" builtin="checker" rgb1=".2 .3 .4" rgb2=".1 .2 .3" width="64" height="64"/>
    <material name="grid" texture="grid" texrepeat="4 4" reflectance=".3"/>
    {asset}
  </asset>
  <worldbody>
    <light pos="0 -1 3" dir="0 .3 -1" directional="true"/>
    <camera name="eye" pos="0 -3 2" xyaxes="1 0 0 0 .55 .83"/>
    <geom name="floor" type="plane" size="2 2 .1" material="grid"/>
    <body name="post" pos="-.7 .3 .4"><geom name="post" type="box" size=".2 .2 .4" rgba=".8 .3 .2 1"/></body>
    <body name="ball" pos=".4 0 .5">
      <joint name="x" type="slide" axis="1 0 0"/>
      <geom name="ball" type="sphere" size=".3" rgba=".2 .7 .3 1"/>
    </body>
    {more}
  </worldbody>
</mujoco>"""
LAYERED = Quality(cell=0.9, shadow_pixels=256)


class Scene:
    """A small world, drawn by both."""

    def __init__(self, asset: str = "", more: str = "") -> None:
        choose_backend()
        import mujoco

        self.model: Any = mujoco.MjModel.from_xml_string(WORLD.format(asset=asset, more=more))
        self.data: Any = mujoco.MjData(self.model)
        self.ours, self.theirs = (Renderer(self.model, View(camera="eye"), quality, 64) for quality in (LAYERED, Quality()))

    def likeness(self) -> float:
        import mujoco

        mujoco.mj_forward(self.model, self.data)
        return ssim(self.theirs.image(self.data), self.ours.image(self.data))

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.close()


def test_what_moves_is_drawn_where_it_is(scene: Scene) -> None:
    for place in (0.0, -0.5, 0.7):
        scene.data.qpos[0] = place
        assert scene.likeness() > 0.98


def test_what_stands_still_is_drawn_again_when_it_is_put_elsewhere_or_painted(scene: Scene) -> None:
    assert scene.likeness() > 0.98
    before = scene.ours.image(scene.data)
    scene.model.body("post").pos[:] = -0.2, 0.8, 0.4
    assert scene.likeness() > 0.98
    moved = scene.ours.image(scene.data)
    scene.model.geom("post").rgba[:3] = 0.1, 0.1, 0.9
    assert scene.likeness() > 0.98
    painted = scene.ours.image(scene.data)
    assert np.abs(moved.astype(int) - before).max() > 60 and np.abs(painted.astype(int) - moved).max() > 60


def test_a_light_that_is_dimmed_is_dimmed(scene: Scene) -> None:
    scene.likeness()
    bright = scene.ours.image(scene.data).mean()
    scene.model.light_diffuse[:] = 0.1
    assert scene.likeness() > 0.97
    assert scene.ours.image(scene.data).mean() < bright - 5


def test_a_model_that_we_cannot_draw_is_left_to_mujoco() -> None:
    asset = '<hfield name="hill" nrow="2" ncol="2" size="1 1 .3 .1" elevation="0 1 0 1"/>'
    scene = Scene(asset, '<geom name="hill" type="hfield" hfield="hill" pos="0 1 0"/>')
    assert scene.likeness() > 0.9
    assert scene.ours._layers is None
    scene.close()


@pytest.mark.parametrize(
    ("task", "profile"), [("metaworld/button_press", "near"), ("robodesk/push_green", "fast"), ("dmc/cheetah_run", "near")]
)
def test_a_picture_depends_on_the_state_alone(task: str, profile: str) -> None:
    """Not on which episode the renderer was opened in, nor on what it drew before."""

    def pictures(*seeds: int) -> list[np.ndarray]:
        env = make_env(task, profile=profile)
        try:
            drawn = []
            for seed in seeds:
                env.reset(seed=seed)
                drawn.append(env.step(env.action_space.low * 0.5)[0]["image"])
            return drawn
        finally:
            env.close()

    first, second = pictures(3, 4)
    np.testing.assert_array_equal(pictures(4)[0], second)
    np.testing.assert_array_equal(pictures(4, 3)[1], first)


def test_a_simpler_shape_stays_within_its_cells_and_keeps_a_plane_flat() -> None:
    rows, columns = np.mgrid[0:1:41j, 0:1:41j]
    flat = np.stack([rows, columns, np.zeros_like(rows)], -1)
    whole = sheet(flat, np.array([0.0, 0.0, 1.0]))
    made: Shape = simpler(whole, 0.1)
    assert len(made.faces) < len(whole.faces) / 8
    assert np.abs(made.positions[:, 2]).max() < 1e-6
    np.testing.assert_allclose(np.abs(made.normals @ [0, 0, 1]), 1, atol=1e-5)
    assert made.positions[:, :2].min() < 0.1 and made.positions[:, :2].max() > 0.9
