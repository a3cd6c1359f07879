"""Lighter meshes for the renderer: a 64-pixel picture does not show 68,000 faces.

Vertices are clustered on a grid and each cluster drawn as one of its own vertices; faces that collapse are dropped. Only
what is uploaded to OpenGL changes: the model is as before once the context is made, so physics and collision never notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

FACE_ARRAYS = ("mesh_face", "mesh_facenormal", "mesh_facetexcoord")


@contextmanager
def lighter_meshes(model: Any, faces: int) -> Iterator[None]:
    """Inside, every mesh of `model` has at most about `faces` faces; 0 leaves all as they are."""
    if not faces:
        yield
        return
    saved = {name: getattr(model, name).copy() for name in (*FACE_ARRAYS, "mesh_facenum")}
    try:
        for mesh in range(model.nmesh):
            if model.mesh_facenum[mesh] > faces:
                _lighten(model, mesh, faces)
        yield
    finally:
        for name, array in saved.items():
            getattr(model, name)[:] = array


def _lighten(model: Any, mesh: int, limit: int) -> None:
    """Replace the mesh's faces in place; those that are left come first and the count is lowered."""
    first, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
    where = slice(first, first + count)
    vertices = model.mesh_vert[model.mesh_vertadr[mesh] :][: model.mesh_vertnum[mesh]]
    faces = model.mesh_face[where].copy()
    drawn, kept = coarsest(vertices, faces, limit)
    for name in FACE_ARRAYS:
        array = getattr(model, name)
        if name == "mesh_face":
            array[first : first + len(kept)] = drawn[kept]
        else:
            array[first : first + len(kept)] = array[where][kept].copy()
    model.mesh_facenum[mesh] = len(kept)


def coarsest(vertices: np.ndarray, faces: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """The finest clustering that leaves at most `limit` faces: faces [F, 3] over old vertices, and which to keep."""
    low, high = 2, 512  # cells along the longest side
    best = cluster(vertices, faces, low)
    while high - low > 1:
        middle = (low + high) // 2
        found = cluster(vertices, faces, middle)
        if len(found[1]) <= limit:
            low, best = middle, found
        else:
            high = middle
    return best


def cluster(vertices: np.ndarray, faces: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Snap vertices [V, 3] to the one nearest the middle of their cluster; drop flat and repeated faces."""
    low = vertices.min(0)
    side = max(float((vertices.max(0) - low).max()), 1e-9) / cells
    cell = ((vertices - low) / side).astype(np.int64)
    _, member = np.unique(number(cell, cells + 1), return_inverse=True)
    sizes = np.bincount(member)
    middle = np.stack([np.bincount(member, vertices[:, axis]) / sizes for axis in range(3)], -1)
    distance = np.square(vertices - middle[member]).sum(-1)
    order = np.lexsort((distance, member))
    nearest = order[np.concatenate([[0], np.cumsum(sizes)[:-1]])]  # the first of each cluster
    drawn = nearest[member][faces].astype(faces.dtype)
    whole = (drawn[:, 0] != drawn[:, 1]) & (drawn[:, 1] != drawn[:, 2]) & (drawn[:, 2] != drawn[:, 0])
    _, unique = np.unique(number(np.sort(drawn[whole], -1).astype(np.int64), len(vertices)), return_index=True)
    return drawn, np.flatnonzero(whole)[np.sort(unique)]


def number(triples: np.ndarray, base: int) -> np.ndarray:
    """One number for each triple of numbers below `base`, in the triples' order: [N, 3] -> [N]."""
    return (triples[:, 0] * base + triples[:, 1]) * base + triples[:, 2]
