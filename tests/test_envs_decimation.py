"""Lighter meshes change what is drawn a little, and nothing that is simulated."""

from __future__ import annotations

import numpy as np
import pytest

from coworld_bench.envs import make_env
from coworld_bench.envs.decimation import FACE_ARRAYS, coarsest, lighter_meshes

LIMIT = 500


@pytest.fixture(scope="module")
def model():
    env = make_env("metaworld/window_close", observation="state")
    env.reset(seed=0)
    yield env.unwrapped.simulator.physics()[0]
    env.close()


def test_inside_no_mesh_has_more_faces_and_outside_the_model_is_as_before(model) -> None:
    before = {name: getattr(model, name).copy() for name in (*FACE_ARRAYS, "mesh_facenum", "mesh_vert", "mesh_graph")}
    assert before["mesh_facenum"].max() > LIMIT
    with lighter_meshes(model, LIMIT):
        assert model.mesh_facenum.max() <= LIMIT
        assert np.array_equal(model.mesh_vert, before["mesh_vert"]), "collision reads the vertices"
        assert np.array_equal(model.mesh_graph, before["mesh_graph"])
    for name, array in before.items():
        assert np.array_equal(getattr(model, name), array), name


def test_an_error_inside_leaves_the_model_whole(model) -> None:
    before = model.mesh_facenum.copy()
    with pytest.raises(RuntimeError), lighter_meshes(model, LIMIT):
        raise RuntimeError
    assert np.array_equal(model.mesh_facenum, before)


def test_the_finest_clustering_that_fits_is_taken() -> None:
    """A flat 20 x 20 grid of squares: the result is within the limit, not far below it, and spans the same square."""
    rows, columns = np.mgrid[0:21, 0:21]
    vertices = np.stack([rows, columns, 0 * rows], -1).reshape(-1, 3).astype(np.float32)
    corner = (rows * 21 + columns)[:-1, :-1].reshape(-1)
    squares = np.stack([corner, corner + 1, corner + 22, corner + 21], -1)
    faces = np.concatenate([squares[:, [0, 1, 2]], squares[:, [0, 2, 3]]]).astype(np.int32)
    drawn, kept = coarsest(vertices, faces, 200)
    assert 50 <= len(kept) <= 200
    used = vertices[drawn[kept].reshape(-1)]
    assert used.min() <= 3 and used.max() >= 17


def test_states_are_bit_identical_under_every_profile() -> None:
    """The profile is for the eye alone: the same actions lead to the same states."""
    states = []
    for profile in ("exact", "fast"):
        env = make_env("metaworld/window_close", action_repeat=50, profile=profile)
        observation, _ = env.reset(seed=5)
        trail = [observation["state"]]
        for action in ([1, 0, 0, 1], [0, -1, 0.5, -1]):
            trail.append(env.step(np.array(action, np.float32))[0]["state"])
        states.append(np.stack(trail))
        env.close()
    assert np.array_equal(*states)
