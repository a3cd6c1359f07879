"""Fewer triangles for a small picture: corners within a cell of a grid become one, where it fits their planes best.

Vertex clustering with quadric error (Lindstrom, "Out-of-core simplification of large polygonal models", 2000)."""

from __future__ import annotations

import numpy as np

from coworld_bench.envs.drawing.shapes import Shape

TOWARDS_MEAN = 1e-2  # how strongly a corner is drawn to the mean of its cell, beside its planes


def simpler(shape: Shape, cell: float) -> Shape:
    """The shape on a grid of `cell` metres; its texture coordinates are lost, they become positions."""
    corners = shape.positions[shape.faces].astype(np.float64)  # [F, 3, 3]
    low = corners.reshape(-1, 3).min(0)
    cells = np.floor((shape.positions - low) / cell).astype(np.int64)
    _, member = np.unique((cells[:, 0] << 40) + (cells[:, 1] << 20) + cells[:, 2], return_inverse=True)
    clusters = member[shape.faces]  # [F, 3]
    planes = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # twice the area long
    area = np.linalg.norm(planes, axis=-1)
    unit = planes / np.maximum(area, 1e-15)[:, None]
    places = best_places(clusters, corners, unit, area)
    faces = distinct(clusters)
    normals = blended_normals(shape, clusters, area, places, faces)
    flat = places[faces].reshape(-1, 3)
    corner = np.concatenate([flat, normals.reshape(-1, 3)], -1, dtype=np.float32)
    corner, index = np.unique(corner, axis=0, return_inverse=True)
    return Shape(corner[:, :3], corner[:, 3:], corner[:, :3], index.reshape(-1, 3))


def best_places(clusters: np.ndarray, corners: np.ndarray, unit: np.ndarray, area: np.ndarray) -> np.ndarray:
    """For each cluster the point nearest to the planes of its faces, [C, 3]; faces [F, 3], corners [F, 3, 3]."""
    count, weight = clusters.max() + 1, np.repeat(area, 3) + 1e-15
    mean = summed(clusters, corners.reshape(-1, 3) * weight[:, None], count)
    mean /= np.bincount(clusters.reshape(-1), weight, count)[:, None]
    outer = (area[:, None, None] * unit[:, :, None] * unit[:, None, :]).reshape(-1, 9)
    height = area[:, None] * unit * (unit * corners[:, 0]).sum(-1, keepdims=True)
    matrix = summed(clusters, np.repeat(outer, 3, 0), count).reshape(-1, 3, 3)
    wanted = summed(clusters, np.repeat(height, 3, 0), count)
    pull = TOWARDS_MEAN * np.trace(matrix, axis1=1, axis2=2)[:, None] + 1e-15
    matrix += pull[..., None] * np.eye(3)
    return np.linalg.solve(matrix, (wanted + pull * mean)[..., None])[..., 0]


def blended_normals(
    shape: Shape, clusters: np.ndarray, area: np.ndarray, places: np.ndarray, faces: np.ndarray
) -> np.ndarray:
    """Normals of the faces' corners, [F, 3, 3]: means of a cluster's old normals, those near the face's counting most."""
    old = shape.normals[shape.faces].reshape(-1, 3)
    outer = ((np.repeat(area, 3) + 1e-15)[:, None, None] * old[:, :, None] * old[:, None, :]).reshape(-1, 9)
    moments = summed(clusters, outer, len(places)).reshape(-1, 3, 3)
    corners = places[faces]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing /= np.maximum(np.linalg.norm(facing, axis=-1, keepdims=True), 1e-15)
    blended = np.einsum("fcij,fj->fci", moments[faces], facing)
    return blended / np.maximum(np.linalg.norm(blended, axis=-1, keepdims=True), 1e-15)


def distinct(clusters: np.ndarray) -> np.ndarray:
    """The faces that did not collapse, each once, the two sides of a thin sheet apart."""
    one, two, three = clusters.T
    whole = clusters[(one != two) & (two != three) & (three != one)]
    first = whole.argmin(-1)
    turned = np.take_along_axis(whole, (first[:, None] + np.arange(3)) % 3, -1)
    return np.unique(turned, axis=0)


def summed(clusters: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Sums over each cluster: values [N, K] -> [C, K]."""
    flat = clusters.reshape(-1)
    return np.stack([np.bincount(flat, column, count) for column in values.T], -1)
