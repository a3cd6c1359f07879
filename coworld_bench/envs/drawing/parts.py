"""What a model shows, part by part: shape, look, texture, and whether it can ever move."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from coworld_bench.envs.drawing import shapes
from coworld_bench.envs.drawing.shapes import Shape
from coworld_bench.envs.drawing.simpler import simpler

COARSER = 2.0  # how much larger the cells are of what is seen only as a shadow or in a mirror
BULGE = 0.04  # pixels by which a round shape may be flattened
OPAQUE = 0.995  # alpha from which MuJoCo draws a geom as opaque
LOOKS = (
    "geom_rgba", "geom_size", "geom_matid", "geom_group", "geom_dataid", "site_rgba", "site_size", "site_matid",
    "site_group", "mat_rgba", "mat_emission", "mat_specular", "mat_shininess", "mat_reflectance", "mat_texrepeat",
    "light_diffuse", "light_ambient", "light_specular", "light_castshadow", "light_active",
)  # fmt: skip


class Unsupported(Exception):
    """The model shows something that only MuJoCo's own renderer draws."""


@dataclass(frozen=True)
class Part:
    """One geom or site.

    place    its row in the poses of all geoms followed by all sites
    coarse   its shape in shadows and mirrors
    texture  number in the model, -1 for none; flat: it is looked up with two coordinates rather than by direction
    """

    place: int
    moves: bool
    shape: Shape
    coarse: Shape
    rgba: np.ndarray
    emission: float
    specular: float
    shininess: float
    reflectance: float
    texture: int
    flat: bool
    casts: bool
    mirrors: bool = False

    @property
    def opaque(self) -> bool:
        return bool(self.rgba[3] >= OPAQUE)


def moving_bodies(model: Any) -> np.ndarray:
    """Which bodies a joint or a mocap pose can move, bool [nbody]."""
    moves = np.zeros(model.nbody, bool)
    for body in range(1, model.nbody):
        moves[body] = moves[model.body_parentid[body]] or model.body_dofnum[body] > 0 or model.body_mocapid[body] >= 0
    return moves


def looks(model: Any) -> list[np.ndarray]:
    """Live views of what parts are made from, beside meshes and textures."""
    return [getattr(model, name) for name in LOOKS]


@dataclass(frozen=True)
class Detail:
    """How finely parts are cut that are drawn at every frame. `pixel`: the width of one in the middle of the scene, metres;
    `cell`: of the grid on which meshes are simplified, pixels. The same for every state, so that pictures are."""

    pixel: float
    cell: float
    kept: dict[tuple[int, float], Shape]  # what was simplified before


def parts_of(model: Any, scene: Any, moves: np.ndarray, detail: Detail) -> list[Part]:
    """The parts of a scene that mjv_updateScene has filled; `moves`: which bodies are drawn at every frame.

    Raises Unsupported for skins, height fields, tendons and the like."""
    if model.nskin or model.nflex or model.nhfield:
        raise Unsupported("skins, flexes and height fields")
    found = [part_of(model, geom, moves, detail) for geom in scene.geoms[: scene.ngeom]]
    mirror = next((index for index, part in enumerate(found) if part.mirrors), -1)
    return [replace(part, mirrors=index == mirror) for index, part in enumerate(found)]  # MuJoCo draws one mirror


def part_of(model: Any, geom: Any, moves: np.ndarray, detail: Detail) -> Part:
    import mujoco

    kinds, flat_kinds = mujoco.mjtObj, (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_BOX)
    if geom.objtype not in (kinds.mjOBJ_GEOM, kinds.mjOBJ_SITE):
        raise Unsupported(f"an object of type {geom.objtype}")
    is_geom = geom.objtype == kinds.mjOBJ_GEOM
    body = (model.geom_bodyid if is_geom else model.site_bodyid)[geom.objid]
    texture = int(model.mat_texid[geom.matid, mujoco.mjtTextureRole.mjTEXROLE_RGB]) if geom.matid >= 0 else -1
    flat = texture >= 0 and (bool(geom.texcoord) or model.tex_type[texture] == mujoco.mjtTexture.mjTEXTURE_2D)
    pixel = detail.pixel if moves[body] else 0.0
    shape, coarse = (shape_of(model, geom, pixel * times, detail) for times in (1.0, COARSER))
    if texture >= 0 and not geom.texcoord:
        shape = replace(shape, coords=texture_coords(model, geom, shape.coords, flat))
    rgba = np.array(geom.rgba, np.float64)
    return Part(
        place=geom.objid if is_geom else model.ngeom + geom.objid,
        moves=bool(moves[body]),
        shape=shape,
        coarse=coarse,
        rgba=rgba,
        emission=geom.emission,
        specular=geom.specular,
        shininess=128 * geom.shininess,
        reflectance=geom.reflectance,
        texture=texture,
        flat=flat,
        casts=geom.type != mujoco.mjtGeom.mjGEOM_PLANE and geom.category != mujoco.mjtCatBit.mjCAT_DECOR,
        mirrors=geom.type in flat_kinds and geom.reflectance > 0 and rgba[3] >= OPAQUE,
    )


def shape_of(model: Any, geom: Any, pixel: float, detail: Detail) -> Shape:
    """A geom's shape where pixels are so wide, metres; 0: as MuJoCo draws it."""
    from mujoco import mjtGeom

    size, quads = np.array(geom.size, np.float64), model.vis.quality.numquads
    slices, stacks = roundness(model, size[:2].max(), pixel)
    if geom.type == mjtGeom.mjGEOM_MESH and geom.dataid >= 0 and geom.dataid % 2 == 0:
        return mesh_of(model, geom, pixel * detail.cell, detail.kept)
    if geom.type in (mjtGeom.mjGEOM_SPHERE, mjtGeom.mjGEOM_ELLIPSOID):
        return shapes.ball(slices, stacks).scaled(size)
    if geom.type == mjtGeom.mjGEOM_CAPSULE:
        return shapes.capsule(slices, stacks, size)
    if geom.type == mjtGeom.mjGEOM_CYLINDER:
        return shapes.cylinder(slices, stacks).scaled(size)
    if geom.type == mjtGeom.mjGEOM_BOX:
        return shapes.box(quads).scaled(size)
    if geom.type == mjtGeom.mjGEOM_PLANE and size[0] > 0 and size[1] > 0:
        spacing = model.geom_size[geom.objid, 2]
        return shapes.plane(shapes.grid_lines(size[0], spacing), shapes.grid_lines(size[1], spacing))
    raise Unsupported(f"a geom of type {geom.type}, data {geom.dataid}, size {size}")


def mesh_of(model: Any, geom: Any, cell: float, kept: dict[tuple[int, float], Shape]) -> Shape:
    """A mesh on a grid of `cell` metres; whole where that is 0 or it has texture coordinates, which would be lost."""
    if geom.texcoord or not cell:
        return shapes.mesh(model, geom.dataid // 2)
    key = geom.dataid // 2, cell
    if key not in kept:
        kept[key] = simpler(shapes.mesh(model, key[0]), cell)
    return kept[key]


def roundness(model: Any, radius: float, pixel: float) -> tuple[int, int]:
    """Slices and stacks of round shapes: MuJoCo's, or as many as keep them round where pixels are so wide, metres."""
    slices, stacks = model.vis.quality.numslices, model.vis.quality.numstacks
    if pixel:
        enough = int(np.ceil(np.pi * np.sqrt(radius / (2 * BULGE * pixel))))
        slices = min(slices, max(enough, 6))
        stacks = min(stacks, max(slices // 2, 4))
    return slices, stacks


def texture_coords(model: Any, geom: Any, coords: np.ndarray, flat: bool) -> np.ndarray:
    """MuJoCo's own mapping of a texture on a shape without coordinates: from those of the unit shape, [V, 3]."""
    size, uniform = np.array(geom.size, np.float64), bool(model.mat_texuniform[geom.matid])
    if not flat:
        return coords * size if uniform else coords
    scale = np.array(model.mat_texrepeat[geom.matid], np.float64)
    if geom.dataid >= 0:  # planes and meshes hold their corners in metres
        scale = np.where(size[:2] > 0, scale / np.maximum(size[:2], 1e-15), scale)
    if uniform:
        scale = np.where(size[:2] > 0, scale * size[:2], scale)
    pair = 0.5 * coords[:, :2] * scale * (1, -1) - 0.5
    return np.concatenate([pair, np.zeros((len(pair), 1))], -1)
