"""Where cameras and lights are and how they project, as 4 x 4 matrices for columns: seen = matrix @ place."""

from __future__ import annotations

from typing import Any

import numpy as np

WIDEST = 160.0  # degrees, of a spotlight's shadow


def looking(place: np.ndarray, forward: np.ndarray, up: np.ndarray) -> np.ndarray:
    """From the world to an eye that looks along its -z."""
    back = -forward / np.linalg.norm(forward)
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    turn = np.stack([right, np.cross(back, right), back])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, -turn @ place
    return matrix


def perspective(right: float, top: float, near: float, far: float) -> np.ndarray:
    """`right` and `top`: half the picture's sides at the distance `near`."""
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[1, 1] = near / right, near / top
    matrix[2, 2:] = -(far + near) / (far - near), -2 * far * near / (far - near)
    matrix[3, 2] = -1
    return matrix


def parallel(half: float, near: float, far: float) -> np.ndarray:
    return np.array(
        [[1 / half, 0, 0, 0], [0, 1 / half, 0, 0], [0, 0, -2 / (far - near), -(far + near) / (far - near)], [0, 0, 0, 1]]
    )


def mirrored(normal: np.ndarray, height: float) -> np.ndarray:
    """Reflects the world in the plane normal · place = height."""
    matrix = np.eye(4)
    matrix[:3, :3] -= 2 * np.outer(normal, normal)
    matrix[:3, 3] = 2 * height * normal
    return matrix


def upright(direction: np.ndarray) -> np.ndarray:
    """Some direction at right angles."""
    axis = np.eye(3)[np.argmin(np.abs(direction))]
    return np.cross(direction, axis)


class Camera:
    """A camera of the model, or the free one that a scene was filled with."""

    def __init__(self, model: Any, scene: Any, number: int | None, moves: np.ndarray) -> None:
        import mujoco

        first = scene.camera[0]
        if first.orthographic or first.frustum_width or first.frustum_center:
            raise ValueError("only plain perspective cameras")
        self.number, top = number, first.frustum_top
        self.projection = perspective(top, top, first.frustum_near, first.frustum_far)
        self.near, self.far, self.slope = first.frustum_near, first.frustum_far, top / first.frustum_near
        still = number is None or model.cam_mode[number] == mujoco.mjtCamLight.mjCAMLIGHT_FIXED
        self.moves = not still or (number is not None and bool(moves[model.cam_bodyid[number]]))
        place = np.mean([eye.pos for eye in scene.camera], axis=0)
        self._pose = place, np.array(first.forward, float), np.array(first.up, float)

    def pose(self, data: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Its place, and the directions forward and up."""
        if self.number is None:
            return self._pose
        turn = data.cam_xmat[self.number].reshape(3, 3)
        return data.cam_xpos[self.number].copy(), -turn[:, 2], turn[:, 1].copy()


class Lamps:
    """The lights of a model, those that cast shadows first, the headlight last."""

    def __init__(self, model: Any, camera: Camera, shadows: bool) -> None:
        self.model = model
        active = [light for light in range(model.nlight) if model.light_active[light]]
        casting = [light for light in active if shadows and model.light_castshadow[light]]
        self.numbers = casting + [light for light in active if light not in casting]
        self.shadows = len(casting)
        self.headlight = bool(model.vis.headlight.active)
        self.count = len(self.numbers) + self.headlight
        self._directional = model.light_directional[self.numbers].astype(bool)
        self._rows = self._fixed_rows()
        self._projections = [self._projection(light, camera) for light in casting]

    def _fixed_rows(self) -> np.ndarray:
        """What does not change from frame to frame of [L, 6, 4]; see shaders.header."""
        model, numbers, rows = self.model, self.numbers, np.zeros((self.count, 6, 4))
        for row, light in zip(rows, numbers, strict=False):
            row[2, :3], row[2, 3] = model.light_attenuation[light], model.light_exponent[light]
            row[0, 3] = not model.light_directional[light]
            row[1, 3] = np.cos(np.radians(model.light_cutoff[light]))
            row[3:, :3] = model.light_ambient[light], model.light_diffuse[light], model.light_specular[light]
        if self.headlight:
            head = model.vis.headlight
            rows[-1, 3:, :3] = head.ambient, head.diffuse, head.specular
        return rows

    def _projection(self, light: int, camera: Camera) -> np.ndarray:
        model = self.model
        if model.light_directional[light]:
            return parallel(model.stat.extent * model.vis.map.shadowclip, camera.near, camera.far)
        angle = min(2 * model.light_cutoff[light] * model.vis.map.shadowscale, WIDEST)
        half = camera.near * np.tan(np.radians(angle) / 2)
        return perspective(half, half, camera.near, camera.far)

    def rows(self, data: Any, forward: np.ndarray) -> np.ndarray:
        """[L, 6, 4]; see shaders.header."""
        rows, places, count = self._rows, data.light_xpos, len(self.numbers)
        aims = data.light_xdir[self.numbers]
        rows[:count, 0, :3] = np.where(self._directional[:, None], -aims, places[self.numbers])
        rows[:count, 1, :3] = aims
        if self.headlight:
            rows[-1, 0, :3] = -forward
        return rows

    def eyes(self, data: Any) -> np.ndarray:
        """The matrices of the lights that cast shadows, [S, 4, 4]."""
        made = np.zeros((self.shadows, 4, 4))
        for index, (light, projection) in enumerate(zip(self.numbers, self._projections, strict=False)):
            aim = data.light_xdir[light]
            made[index] = projection @ looking(data.light_xpos[light], aim, upright(aim))
        return made


def zooms(eyes: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Scale (x, y) and offset (x, y) that fill each light's picture with balls; eyes [S, 4, 4], centres [N, 3]."""
    seen = centres @ eyes[:, :3, :3].transpose(0, 2, 1) + eyes[:, None, :3, 3]  # [S, N, 3]
    depth = centres @ eyes[:, 3, :3].T + eyes[:, 3, 3]  # [N, S]
    depth = depth.T[..., None]  # [S, N, 1]
    sweep = radii[:, None] * np.linalg.norm(eyes[:, :2, :3], axis=-1)[:, None]  # [S, N, 2]
    deep = radii[:, None] * np.linalg.norm(eyes[:, 3, :3], axis=-1)[:, None, None]  # [S, N, 1]
    ends = np.stack(
        [(seen[..., :2] + side * sweep) / np.maximum(depth + way * deep, 1e-3) for side in (-1, 1) for way in (-1, 1)]
    )
    low, high = np.clip(ends.min((0, 2)), -1, 1), np.clip(ends.max((0, 2)), -1, 1)  # [S, 2]
    scale = 2 / np.maximum(high - low, 1e-3)
    return np.concatenate([scale, -scale * (low + high) / 2], -1)
