"""Triangles of MuJoCo's shapes, cut as MuJoCo cuts them: its light is computed at the corners, so the cut shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

SHARP = 0.8  # cosine below which MuJoCo lights a mesh's corner with the face's normal
GRID = 200  # squares that MuJoCo gives a plane at most, along a side


@dataclass(frozen=True)
class Shape:
    """Corners of triangles: positions, normals and texture coordinates, each [V, 3], and faces [F, 3] over them."""

    positions: np.ndarray
    normals: np.ndarray
    coords: np.ndarray
    faces: np.ndarray

    def scaled(self, size: np.ndarray) -> Shape:
        """Stretched along the axes; texture coordinates stay those of the unit shape."""
        normals = self.normals / size
        length = np.linalg.norm(normals, axis=-1, keepdims=True)
        return Shape(self.positions * size, normals / np.maximum(length, 1e-12), self.coords, self.faces)


def joined(shapes: list[Shape]) -> Shape:
    """Several shapes as one."""
    first = np.cumsum([0, *(len(shape.positions) for shape in shapes)])
    faces = [shape.faces + start for shape, start in zip(shapes, first, strict=False)]
    return Shape(
        np.concatenate([shape.positions for shape in shapes]),
        np.concatenate([shape.normals for shape in shapes]),
        np.concatenate([shape.coords for shape in shapes]),
        np.concatenate(faces),
    )


def sheet(positions: np.ndarray, normals: np.ndarray) -> Shape:
    """The squares of a grid of corners [A, B, 3], facing the side on which A to B turns left."""
    rows, columns = positions.shape[:2]
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    one, two, three, four = corner, corner + columns, corner + columns + 1, corner + 1
    faces = np.concatenate([np.stack([one, two, four], -1), np.stack([two, three, four], -1)])
    flat = positions.reshape(-1, 3)
    return Shape(flat, np.broadcast_to(normals, positions.shape).reshape(-1, 3), flat, faces)


def around(slices: int, radius: np.ndarray, height: np.ndarray, normals: np.ndarray | None = None) -> Shape:
    """A profile of radii and heights [N], from below upwards, turned about z; without normals those of the sphere."""
    angle = 2 * np.pi * np.arange(slices + 1) / slices
    turn = np.stack([np.cos(angle), np.sin(angle)], -1)[:, None]  # [A, 1, 2]
    rise = np.broadcast_to(height[:, None], (slices + 1, len(height), 1))
    positions = np.concatenate([turn * radius[:, None], rise], -1)
    return sheet(positions, positions if normals is None else normals)


def ball(slices: int, stacks: int) -> Shape:
    """The unit sphere."""
    tilt = np.linspace(-np.pi / 2, np.pi / 2, stacks // 2 * 2 + 1)
    return around(slices, np.cos(tilt), np.sin(tilt))


def tube(slices: int, stacks: int) -> Shape:
    """The side of the unit cylinder, from -1 to 1."""
    height = np.linspace(-1, 1, stacks + 1)
    shape = around(slices, np.ones(stacks + 1), height)
    return Shape(shape.positions, shape.positions * (1, 1, 0), shape.coords, shape.faces)


def disk(slices: int, stacks: int, side: int) -> Shape:
    """The unit cylinder's lid (side 1) or bottom (-1)."""
    radius = np.linspace(1, 0, stacks + 1) if side > 0 else np.linspace(0, 1, stacks + 1)
    return around(slices, radius, np.full(stacks + 1, float(side)), np.array([0.0, 0, side]))


def cylinder(slices: int, stacks: int) -> Shape:
    return joined([disk(slices, stacks // 2, -1), tube(slices, max(stacks // 4, 1)), disk(slices, stacks // 2, 1)])


def capsule(slices: int, stacks: int, size: np.ndarray) -> Shape:
    """Radius size[0], half the length of its straight part size[2], metres."""
    tilt = np.linspace(0, np.pi / 2, stacks // 2 + 1)
    top = around(slices, np.cos(tilt), np.sin(tilt))
    bottom = around(slices, np.cos(tilt[::-1]), -np.sin(tilt[::-1]))
    radius, half = size[0], size[2]
    ends = [
        Shape(
            end.positions * radius + np.array([0, 0, side * half]),
            end.normals,
            end.coords + np.array([0, 0, side]),
            end.faces,
        )
        for end, side in ((top, 1), (bottom, -1))
    ]
    return joined([tube(slices, max(stacks // 4, 1)).scaled(size), *ends])


def square(quads: int) -> Shape:
    """The unit square at z = 0, from -1 to 1, facing up."""
    line = np.linspace(-1, 1, quads + 1)
    return plane(line, line)


def plane(x: np.ndarray, y: np.ndarray) -> Shape:
    """The rectangles between grid lines at x and y, facing up."""
    corners = np.stack([*np.meshgrid(x, y, indexing="ij"), np.zeros((len(x), len(y)))], -1)
    return sheet(corners, np.array([0.0, 0, 1]))


def box(quads: int) -> Shape:
    """The unit cube, from -1 to 1."""
    top = square(quads)
    turns = [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, -1, 0], [0, 0, -1]], [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
        [[0, 0, -1], [1, 0, 0], [0, -1, 0]], [[1, 0, 0], [0, 0, -1], [0, 1, 0]], [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
    ]  # fmt: skip
    sides = []
    for turn in turns:
        positions, normals = (top.positions + np.array([0, 0, 1])) @ np.array(turn).T, top.normals @ np.array(turn).T
        sides.append(Shape(positions, normals, positions, top.faces))
    return joined(sides)


def grid_lines(half: float, spacing: float) -> np.ndarray:
    """Where MuJoCo cuts a plane of this half side and grid spacing, metres."""
    spacing = max(spacing, half / (GRID - 2))
    count = int(half / max(spacing, 1e-15))
    count -= count % 2
    pad = half - count * spacing
    inner = -half + pad + 2 * spacing * np.arange(count + 1)
    return np.unique(np.round([-half, *inner, half], 9))


def mesh(model: Any, number: int) -> Shape:
    """A mesh of the compiled model, its texture coordinates where it has any, else its positions."""
    faces = slice(model.mesh_faceadr[number], model.mesh_faceadr[number] + model.mesh_facenum[number])
    positions = model.mesh_vert[model.mesh_vertadr[number] + model.mesh_face[faces]]  # [F, 3, 3]
    normals = model.mesh_normal[model.mesh_normaladr[number] + model.mesh_facenormal[faces]]
    flat = np.cross(positions[:, 1] - positions[:, 0], positions[:, 2] - positions[:, 0])
    flat = (flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-15))[:, None]
    coords = positions
    if model.mesh_texcoordadr[number] >= 0:
        pairs = model.mesh_texcoord[model.mesh_texcoordadr[number] + model.mesh_facetexcoord[faces]]
        coords = np.concatenate([pairs, np.zeros((*pairs.shape[:2], 1))], -1)
    else:
        normals = np.where((normals * flat).sum(-1, keepdims=True) < SHARP, flat, normals)
    corners = np.concatenate([positions, normals, coords], -1, dtype=np.float32).reshape(-1, 9)
    unique, index = np.unique(corners, axis=0, return_inverse=True)
    return Shape(unique[:, :3], unique[:, 3:6], unique[:, 6:], index.reshape(-1, 3))
