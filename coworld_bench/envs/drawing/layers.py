"""A picture in layers: what stands still, its shadows and its mirror image are drawn once; what moves is drawn anew.

    shadows of what moves -> mirror image -> what stands still, darkened by those shadows -> what moves -> see-through parts

The first layer is drawn again when anything that it depends on changes: the camera, lights, looks, or the pose of a part
that no joint moves. Before a camera that moves, nothing stands still but the skybox.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mujoco
import numpy as np
from OpenGL import GL

from coworld_bench.envs.drawing import opengl, shaders
from coworld_bench.envs.drawing.eyes import Camera, Lamps, looking, mirrored, zooms
from coworld_bench.envs.drawing.opengl import Mesh
from coworld_bench.envs.drawing.parts import Detail, looks, moving_bodies, parts_of
from coworld_bench.envs.drawing.shapes import Shape
from coworld_bench.envs.rendering import Quality

STILL_SHADOW = 2048  # pixels a side of the shadows that are drawn once
FLAT, CUBE, MOVING_SHADOWS, STILL_SHADOWS, MIRRORED, STILL, WHERE, DEPTHS, SHARES = range(9)  # texture units
SPARE = 16
UNITS = {
    "flat_texture": FLAT, "cube_texture": CUBE, "moving_shadows": MOVING_SHADOWS, "still_shadows": STILL_SHADOWS,
    "mirrored": MIRRORED, "still": STILL, "where": WHERE, "depths": DEPTHS,
}  # fmt: skip


Group = tuple[Mesh, int, int]  # and its texture's kind and name


class Program:
    """A program with its samplers set; other uniforms by name."""

    def __init__(self, vertex: str, fragment: str, outputs: tuple[str, ...] = ("result",)) -> None:
        self.number = opengl.program(vertex, fragment, shaders.ATTRIBUTES, outputs)
        GL.glUseProgram(self.number)
        block = GL.glGetUniformBlockIndex(self.number, "Frame")
        if block != GL.GL_INVALID_INDEX:
            GL.glUniformBlockBinding(self.number, block, 0)
        for name, unit in (*UNITS.items(), *((f"share{s}", SHARES + s) for s in range(8))):
            GL.glUniform1i(GL.glGetUniformLocation(self.number, name), unit)
        self._places: dict[str, int] = {}

    def place(self, name: str) -> int:
        if name not in self._places:
            self._places[name] = GL.glGetUniformLocation(self.number, name)
        return self._places[name]


class Layers:
    """Draws one model from one camera into a box (left, upper, right, lower) of a square picture of `size` pixels."""

    _key: bytes
    _shadow_program: Program
    _surface: Program
    _compose: Program
    _moving: list[Group]
    _casters: Mesh | None
    _mirror_seen: bool
    _target: int
    _final: int
    _moving_target: int
    _middles: np.ndarray

    def __init__(
        self, model: Any, data: Any, camera: Any, size: int, box: tuple[int, int, int, int], quality: Quality
    ) -> None:
        self._model, self._camera_name, self._size, self._box, self._quality = model, camera, size, box, quality
        self._pixels = quality.shadow_pixels or STILL_SHADOW
        self._width, self._height = box[2] - box[0], box[3] - box[1]
        self._context = mujoco.gl_context.GLContext(size, size)
        self._context.make_current()
        samples = quality.samples if quality.samples >= 0 else model.vis.quality.offsamples
        self._samples = min(samples, GL.glGetIntegerv(GL.GL_MAX_COLOR_TEXTURE_SAMPLES))
        self._kept = GL.GL_TEXTURE_2D_MULTISAMPLE if self._samples > 1 else GL.GL_TEXTURE_2D
        self._read = np.empty((self._height, self._width, 4), np.uint8)
        self._looks, self._looked = looks(model), b""
        self._made: list[Mesh] = []
        self._layout = shaders.Layout(0, 0, 0, 0)  # that of no model
        self._simpler: dict[tuple[int, float], Shape] = {}
        self._textures: dict[int, tuple[int, int]] = {}
        self._square = Mesh(np.array([[-1, -1], [3, -1], [-1, 3]]), np.arange(3), (2,))
        self._block = GL.glGenBuffers(1)
        self._prepare(data)

    def close(self) -> None:
        if self._context is not None:
            self._context.free()
            self._context = None

    def image(self, data: Any) -> np.ndarray:
        """The box of the picture, uint8 [H, W, 3]."""
        self._context.make_current()
        if self._look() != self._looked:
            self._prepare(data)
        key = self._place(data)
        if key != self._key:
            self._draw_still()
            self._key = key
        self._draw_shadows(self._shadow_program, self._moving_target, self._pixels, self._casters)
        if self._mirror_seen:
            self._draw_mirror_image()
        self._begin(self._target)
        self._cover(self._compose)
        for group in self._moving:
            self._draw(group, self._surface)
        self._draw_see_through()
        self._flatten(self._target, self._final)
        return self._pixels_of(self._final)[::-1, :, :3].copy()

    def _look(self) -> bytes:
        return b"".join(array.tobytes() for array in self._looks)

    # What is made once, and again when the looks of the model change.

    def _prepare(self, data: Any) -> None:
        model = self._model
        scene = mujoco.MjvScene(model, maxgeom=10000)
        camera, number = self._scene_camera()
        mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, camera, mujoco.mjtCatBit.mjCAT_ALL.value, scene)
        moves = moving_bodies(model)
        self._camera = Camera(model, scene, number, moves)
        self._lamps = Lamps(model, self._camera, self._quality.shadows)
        moves |= self._camera.moves
        usual = mujoco.MjData(model)
        mujoco.mj_kinematics(model, usual)
        mujoco.mj_camlight(model, usual)
        far = np.linalg.norm(self._camera.pose(usual)[0] - model.stat.center)
        detail = Detail(float(2 * self._camera.slope / self._size * far), self._quality.cell, self._simpler)
        self._parts = parts_of(model, scene, moves, detail)
        self._looked, self._key = self._look(), b""
        self._rest = np.array([not part.moves for part in self._parts], bool)
        self._places = np.array([part.place for part in self._parts], int)
        self._mirror = next((index for index, part in enumerate(self._parts) if part.mirrors), -1)
        if not self._quality.reflections:
            self._mirror = -1
        self._skybox = next((int(n) for n in np.flatnonzero(model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX)), None)
        self._measure_casters()
        self._make_groups()
        layout = shaders.Layout(self._lamps.count, self._lamps.shadows, len(self._parts), self._samples)
        if layout != self._layout:
            self._layout, self._values = layout, np.zeros(layout.floats, np.float32)
            self._make_programs()
            self._make_targets()

    def _scene_camera(self) -> tuple[Any, int | None]:
        """The camera for MuJoCo, and its number in the model."""
        if isinstance(self._camera_name, mujoco.MjvCamera):
            return self._camera_name, None
        camera, name = mujoco.MjvCamera(), self._camera_name
        camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        camera.fixedcamid = name if isinstance(name, int) else self._model.camera(name).id
        return camera, int(camera.fixedcamid)

    def _measure_casters(self) -> None:
        """Balls about the moving parts that cast shadows."""
        self._casting = [i for i, part in enumerate(self._parts) if part.casts and not self._rest[i]]
        middles, radii = [], []
        for index in self._casting:
            corners = self._parts[index].shape.positions
            middle = (corners.min(0) + corners.max(0)) / 2
            middles.append(middle)
            radii.append(np.linalg.norm(corners - middle, axis=-1).max())
        self._middles, self._radii = np.array(middles), np.array(radii)

    def _make_groups(self) -> None:
        for mesh in self._made:
            mesh.free()
        indices, opaque = range(len(self._parts)), [part.opaque for part in self._parts]
        moving = [i for i in indices if opaque[i] and not self._rest[i]]
        self._still = self._groups(i for i in indices if opaque[i] and self._rest[i])
        self._moving = self._groups(moving)
        self._still_image = self._groups(i for i in indices if opaque[i] and self._rest[i] and i != self._mirror)
        self._moving_image = self._groups((i for i in moving if i != self._mirror), coarse=True)
        self._clear = [(self._mesh([i]), *self._paint([i]), self._parts[i].rgba[3], i) for i in indices if not opaque[i]]
        self._casters = self._outline(self._casting)
        self._still_casters = self._outline(i for i in indices if self._parts[i].casts and self._rest[i])
        self._made = [
            group[0]
            for name in ("_still", "_moving", "_still_image", "_moving_image", "_clear")
            for group in getattr(self, name)
        ] + [m for m in (self._casters, self._still_casters) if m]

    def _groups(self, indices: Iterable[int], coarse: bool = False) -> list[tuple[Mesh, int, int]]:
        """A mesh for each texture: the mesh, the texture's kind and name."""
        by_texture: dict[tuple[int, bool], list[int]] = {}
        for index in indices:
            by_texture.setdefault((self._parts[index].texture, self._parts[index].flat), []).append(index)
        return [(self._mesh(members, coarse), *self._paint(members)) for members in by_texture.values()]

    def _paint(self, members: list[int]) -> tuple[int, int]:
        """The kind of texture, as the programs number it, and its name."""
        part = self._parts[members[0]]
        if part.texture < 0:
            return 0, 0
        if part.texture not in self._textures:
            GL.glActiveTexture(GL.GL_TEXTURE0)
            self._textures[part.texture] = opengl.model_texture(self._model, part.texture)
        return 1 if part.flat else 2, self._textures[part.texture][1]

    def _mesh(self, members: list[int], coarse: bool = False) -> Mesh:
        corners, faces, first = [], [], 0
        for index in members:
            part = self._parts[index]
            shape = part.coarse if coarse else part.shape
            count = len(shape.positions)
            look = (*part.rgba[:3], part.emission, part.specular, part.shininess, index == self._mirror)
            same = np.broadcast_to((index, *look), (count, 8))
            columns = (shape.positions, same[:, :1], shape.normals, shape.coords, same[:, 1:])
            corners.append(np.concatenate(columns, -1))
            faces.append(shape.faces + first)
            first += count
        return Mesh(np.concatenate(corners), np.concatenate(faces), shaders.SIZES)

    def _outline(self, members: Iterable[int]) -> Mesh | None:
        """Position and part alone, for shadows."""
        corners, faces, first = [], [], 0
        for index in members:
            shape = self._parts[index].coarse
            places, inverse = np.unique(np.round(shape.positions, 6), axis=0, return_inverse=True)
            corners.append(np.concatenate([places, np.full((len(places), 1), index)], -1))
            faces.append(inverse.reshape(-1)[shape.faces] + first)
            first += len(places)
        return Mesh(np.concatenate(corners), np.concatenate(faces), (3, 1)) if corners else None

    def _make_programs(self) -> None:
        layout, still = self._layout, bool(self._rest.any())
        surface = shaders.surface_vertex(layout, True, False)
        self._shadow_program = Program(shaders.shadow_vertex(layout, True), shaders.NOTHING, ())
        self._still_shadow_program = Program(shaders.shadow_vertex(layout, False), shaders.NOTHING, ())
        self._surface = Program(surface, shaders.surface_fragment(layout, still))
        self._still_surface = Program(surface, shaders.still_fragment(layout), shaders.still_outputs(layout))
        self._see_through = Program(shaders.surface_vertex(layout, False, False), shaders.plain_fragment(layout, False))
        self._image = Program(shaders.surface_vertex(layout, False, True), shaders.plain_fragment(layout, True))
        self._sky = Program(shaders.WHOLE, shaders.sky_fragment(layout), shaders.still_outputs(layout))
        self._copy = Program(shaders.WHOLE, shaders.copy_fragment(layout))
        self._compose = Program(shaders.WHOLE, shaders.compose_fragment(layout)) if still else self._copy

    def _make_targets(self) -> None:
        lights = self._layout.shadows
        GL.glActiveTexture(GL.GL_TEXTURE0 + SPARE)
        shares = [self._canvas(opengl.COLOUR) for _ in range(lights)]
        still, where, depths = (self._canvas(kind) for kind in (opengl.COLOUR, opengl.PLACE, opengl.DEPTH))
        image, image_depths = self._canvas(opengl.COLOUR), self._canvas(opengl.DEPTH)
        self._first, self._first_image = (still, depths), (image, image_depths)
        self._still_target = opengl.target([still, where, *shares], depths, self._samples)
        self._still_image_target = opengl.target([image], image_depths, self._samples)
        self._target = self._canvas_target()
        self._image_target = self._canvas_target()
        self._final, _ = self._flat_target()
        self._final_image, seen = self._flat_target()
        units = {MIRRORED: seen}
        if lights:
            moving = opengl.shadow_texture(self._pixels * lights, self._pixels)
            resting = opengl.shadow_texture(STILL_SHADOW * lights, STILL_SHADOW)
            self._moving_target, self._resting_target = opengl.target([], moving), opengl.target([], resting)
            units |= {MOVING_SHADOWS: moving, STILL_SHADOWS: resting}
        self._bind(units)
        kept = {STILL: still, WHERE: where, DEPTHS: depths} | {SHARES + s: share for s, share in enumerate(shares)}
        self._bind(kept, self._kept)
        GL.glBindBuffer(GL.GL_UNIFORM_BUFFER, self._block)
        GL.glBufferData(GL.GL_UNIFORM_BUFFER, self._values.nbytes, None, GL.GL_STREAM_DRAW)
        GL.glBindBufferBase(GL.GL_UNIFORM_BUFFER, 0, self._block)

    def _canvas(self, kind: int) -> int:
        return opengl.texture(self._width, self._height, kind, self._samples)

    def _canvas_target(self) -> int:
        return opengl.target([self._canvas(opengl.COLOUR)], self._canvas(opengl.DEPTH), self._samples)

    def _flat_target(self) -> tuple[int, int]:
        """A target of one sample a pixel, and its texture."""
        seen = opengl.texture(self._width, self._height, opengl.COLOUR)
        return opengl.target([seen], opengl.texture(self._width, self._height, opengl.DEPTH)), seen

    def _bind(self, units: dict[int, int], kind: int = GL.GL_TEXTURE_2D) -> None:
        for unit, texture in units.items():
            GL.glActiveTexture(GL.GL_TEXTURE0 + unit)
            GL.glBindTexture(kind, texture)

    # A frame.

    def _place(self, data: Any) -> bytes:
        """Send where everything is; returns what the first layer depends on."""
        place, forward, up = self._camera.pose(data)
        poses = self._poses(data)
        view = self._camera.projection @ looking(place, forward, up)
        mirror, reflectance = np.array([0.0, 0, 1, 0]), 0.0
        if self._mirror >= 0:
            mirror, reflectance = self._mirror_plane(poses), self._parts[self._mirror].reflectance
        eyes, lamps = self._lamps.eyes(data), self._lamps.rows(data, forward)
        middles = (
            np.einsum("nij,nj->ni", poses[self._casting, :, :3], self._middles) + poses[self._casting, :, 3]
            if self._casting
            else np.zeros((1, 3))
        )
        zoom = zooms(eyes, middles, self._radii if self._casting else np.zeros(1))
        blocks = [view.T, (view @ mirrored(mirror[:3], mirror[3])).T, (*place, reflectance), mirror]
        blocks += [eyes.transpose(0, 2, 1), zoom] if self._layout.shadows else [np.zeros(20)]
        blocks += [lamps if self._lamps.count else np.zeros(24), poses]
        first = 0
        for block in blocks:
            flat = np.ravel(block)
            self._values[first : first + len(flat)] = flat
            first += len(flat)
        GL.glBindBuffer(GL.GL_UNIFORM_BUFFER, self._block)
        GL.glBufferSubData(GL.GL_UNIFORM_BUFFER, 0, self._values.nbytes, self._values)
        self._axes = forward, up
        if not self._rest.any():
            return np.concatenate([forward, up]).tobytes()
        return np.concatenate([place, forward, up, np.ravel(lamps), np.ravel(eyes), np.ravel(poses[self._rest])]).tobytes()

    def _poses(self, data: Any) -> np.ndarray:
        """Rotation and place of every part, [N, 3, 4]."""
        places = np.concatenate([data.geom_xpos, data.site_xpos])[self._places]
        turns = np.concatenate([data.geom_xmat, data.site_xmat])[self._places].reshape(-1, 3, 3)
        return np.concatenate([turns, places[..., None]], -1)

    def _mirror_plane(self, poses: np.ndarray) -> np.ndarray:
        """Normal and height of the mirror: a plane, or a box's top."""
        pose, corners = poses[self._mirror], self._parts[self._mirror].shape.positions
        normal = pose[:, 2]
        return np.array([*normal, normal @ pose[:, 3] + corners[:, 2].max()])

    def _draw_still(self) -> None:
        """The layers that are kept."""
        if self._layout.shadows:
            self._draw_shadows(self._still_shadow_program, self._resting_target, STILL_SHADOW, self._still_casters)
        self._begin(self._still_target)
        if self._skybox is not None:
            self._draw_sky(self._skybox)
        for group in self._still:
            self._draw(group, self._still_surface)
        self._mirror_seen = self._mirror >= 0 and (not self._rest[self._mirror] or self._mirror_shows())
        if self._mirror_seen:
            self._begin(self._still_image_target)
            GL.glFrontFace(GL.GL_CW)
            for group in self._still_image:
                self._draw(group, self._image)
            GL.glFrontFace(GL.GL_CCW)

    def _mirror_shows(self) -> bool:
        """Whether any fragment of the layer that is kept belongs to the mirror."""
        self._flatten(self._still_target, self._final)
        return bool(self._pixels_of(self._final)[..., 3].any())

    def _draw_sky(self, skybox: int) -> None:
        forward, up = self._axes
        right = np.cross(forward, up)
        slope, side = self._camera.slope, self._size
        left, low = self._box[0], self._size - self._box[3]
        across, upwards = right * slope, up * slope
        corner = forward + across * (2 * left / side - 1) + upwards * (2 * low / side - 1)
        rays = np.stack([across * 2 / side, upwards * 2 / side, corner], -1)
        GL.glUseProgram(self._sky.number)
        GL.glUniformMatrix3fv(self._sky.place("rays"), 1, True, np.ascontiguousarray(rays, np.float32))
        if skybox not in self._textures:
            GL.glActiveTexture(GL.GL_TEXTURE0 + CUBE)
            self._textures[skybox] = opengl.model_texture(self._model, skybox)
        GL.glActiveTexture(GL.GL_TEXTURE0 + CUBE)
        GL.glBindTexture(GL.GL_TEXTURE_CUBE_MAP, self._textures[skybox][1])
        GL.glUniform1i(self._sky.place("kind"), 2)
        GL.glDepthMask(False)
        GL.glDisable(GL.GL_DEPTH_TEST)
        self._viewport(whole=True)
        self._square.draw()
        self._viewport()
        GL.glEnable(GL.GL_DEPTH_TEST)
        GL.glDepthMask(True)

    def _draw_shadows(self, program: Program, target: int, pixels: int, casters: Mesh | None) -> None:
        if not self._layout.shadows:
            return
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, target)
        GL.glEnable(GL.GL_DEPTH_TEST)
        GL.glDepthMask(True)
        GL.glClear(GL.GL_DEPTH_BUFFER_BIT)
        if casters is None:
            return
        GL.glDisable(GL.GL_CULL_FACE)
        GL.glEnable(GL.GL_POLYGON_OFFSET_FILL)
        GL.glPolygonOffset(1.5, 4.0)
        GL.glUseProgram(program.number)
        for light in range(self._layout.shadows):
            GL.glViewport(light * pixels, 0, pixels, pixels)
            GL.glUniform1i(program.place("which"), light)
            casters.draw()
        GL.glDisable(GL.GL_POLYGON_OFFSET_FILL)
        GL.glEnable(GL.GL_CULL_FACE)

    def _draw_mirror_image(self) -> None:
        self._begin(self._image_target)
        if self._rest.any():
            self._bind({STILL: self._first_image[0], DEPTHS: self._first_image[1]}, self._kept)
            self._cover(self._copy)
            self._bind({STILL: self._first[0], DEPTHS: self._first[1]}, self._kept)
        GL.glFrontFace(GL.GL_CW)
        for group in self._moving_image:
            self._draw(group, self._image)
        GL.glFrontFace(GL.GL_CCW)
        self._flatten(self._image_target, self._final_image)

    def _begin(self, target: int) -> None:
        """Draw into a cleared target from now on."""
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, target)
        self._viewport()
        GL.glEnable(GL.GL_DEPTH_TEST)
        GL.glEnable(GL.GL_CULL_FACE)
        GL.glClear(GL.GL_COLOR_BUFFER_BIT | GL.GL_DEPTH_BUFFER_BIT)

    def _viewport(self, whole: bool = False) -> None:
        """The target is the box of the picture, or all of what is drawn (`whole`)."""
        if whole:
            GL.glViewport(0, 0, self._width, self._height)
        else:
            GL.glViewport(-self._box[0], self._box[3] - self._size, self._size, self._size)

    def _cover(self, program: Program) -> None:
        """Fill colours and depths of the target."""
        self._viewport(whole=True)
        GL.glUseProgram(program.number)
        GL.glDepthFunc(GL.GL_ALWAYS)
        self._square.draw()
        GL.glDepthFunc(GL.GL_LESS)
        self._viewport()

    def _draw(self, group: tuple[Mesh, int, int], program: Program) -> None:
        mesh, kind, texture = group
        GL.glUseProgram(program.number)
        GL.glUniform1i(program.place("kind"), kind)
        if kind == 1:
            GL.glActiveTexture(GL.GL_TEXTURE0 + FLAT)
            GL.glBindTexture(GL.GL_TEXTURE_2D, texture)
        elif kind == 2:
            GL.glActiveTexture(GL.GL_TEXTURE0 + CUBE)
            GL.glBindTexture(GL.GL_TEXTURE_CUBE_MAP, texture)
        mesh.draw()

    def _draw_see_through(self) -> None:
        if not self._clear:
            return
        GL.glEnable(GL.GL_BLEND)
        GL.glBlendFunc(GL.GL_SRC_ALPHA, GL.GL_ONE_MINUS_SRC_ALPHA)
        GL.glDepthMask(False)
        for mesh, kind, texture, alpha, _ in self._clear:
            GL.glUseProgram(self._see_through.number)
            twice = 1 - (1 - alpha) ** 2  # MuJoCo draws them front to back, then back to front
            GL.glUniform1f(self._see_through.place("alpha"), twice)
            self._draw((mesh, kind, texture), self._see_through)
        GL.glDepthMask(True)
        GL.glDisable(GL.GL_BLEND)

    def _flatten(self, source: int, target: int) -> None:
        """The mean of the samples of each pixel."""
        box = (0, 0, self._width, self._height)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, source)
        GL.glBindFramebuffer(GL.GL_DRAW_FRAMEBUFFER, target)
        GL.glBlitFramebuffer(*box, *box, GL.GL_COLOR_BUFFER_BIT, GL.GL_NEAREST)

    def _pixels_of(self, target: int) -> np.ndarray:
        """Uint8 [H, W, 4], from below upwards; overwritten by the next."""
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, target)
        GL.glReadPixels(0, 0, self._width, self._height, GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, self._read)
        return self._read
