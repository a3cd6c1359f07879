"""Pictures of MuJoCo scenes: one renderer for all suites, and the table of render profiles.

Two suites' own renderers in one process spoil each other's pictures without an error (so do two Meta-World
environments), so nobody here calls them. A renderer is made at its first frame: a process that holds an OpenGL context
cannot be forked safely.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from coworld_bench.envs.decimation import lighter_meshes
from coworld_bench.errors import MissingPackage, NotUsable

APT_LINE = "apt-get install -y --no-install-recommends libegl1 libopengl0 libgl1-mesa-dri"
PROBE_SECONDS = 120


@dataclass(frozen=True)
class Quality:
    """What is drawn. 0 shadow pixels and slices, and -1 samples, leave what the model says.

    cell    above 0: drawn in layers (see `drawing`), moving meshes on a grid of so many pixels; a model that this cannot
            draw is left to MuJoCo, which uses the rest
    faces   at most about so many a mesh where MuJoCo draws; 0 leaves all meshes whole
    slices  of round shapes where MuJoCo draws
    """

    cell: float = 0.0
    faces: int = 0
    slices: int = 0
    shadow_pixels: int = 0
    samples: int = -1
    shadows: bool = True
    reflections: bool = True


QUALITY = {
    ("metaworld", "exact"): Quality(),
    ("metaworld", "near"): Quality(cell=0.4, faces=1500, shadow_pixels=256),
    ("metaworld", "fast"): Quality(faces=2000, samples=0, shadows=False, reflections=False),
    ("robodesk", "exact"): Quality(),
    ("robodesk", "near"): Quality(cell=0.7, faces=2000, shadow_pixels=256),
    ("robodesk", "fast"): Quality(cell=1.1, faces=1000, shadow_pixels=128, samples=0),
    ("dmc", "exact"): Quality(),
    ("dmc", "near"): Quality(cell=0.9, shadow_pixels=256),
    ("dmc", "fast"): Quality(slices=16, samples=0, shadows=False, reflections=False),
}


@dataclass(frozen=True)
class FreeCamera:
    """A camera that the model does not contain; metres and degrees."""

    lookat: tuple[float, float, float]
    distance: float
    azimuth: float
    elevation: float


@dataclass(frozen=True)
class View:
    """Which picture of the scene is the observation.

    camera       name or number in the model, or a free one
    upside_down  turn the picture over, as the released code stores it
    scenery      geoms that a moving background may replace, beside what shows no object at all
    crop         draw at `draw_size` pixels a side, cut this box (left, upper, right, lower), reduce to the image
    """

    camera: str | int | FreeCamera
    upside_down: bool = False
    scenery: tuple[str, ...] = ()
    draw_size: int = 0
    crop: tuple[float, float, float, float] | None = None


def choose_backend() -> None:
    """Let MuJoCo draw through EGL unless the user chose otherwise; to be called before mujoco is first imported."""
    if os.environ.get("MUJOCO_GL"):
        return
    try:
        ctypes.CDLL("libEGL.so.1")
        os.environ["MUJOCO_GL"] = "egl"
    except OSError:  # with "egl" the import of mujoco would fail, and states can be simulated without pictures
        os.environ["MUJOCO_GL"] = "disable"


@contextmanager
def importing(package: str, command: str) -> Iterator[None]:
    """To import a simulator in: MissingPackage with `command` where it is not installed, NotUsable without OpenGL."""
    choose_backend()
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackage(package, command) from error
    except (AttributeError, ImportError, RuntimeError) as error:  # how mujoco says that OpenGL is missing
        raise opengl_missing(error) from error


class Renderer:
    """Draws one model from one view; holds OpenGL contexts from the first picture to `close`."""

    def __init__(self, model: Any, view: View, quality: Quality, size: int) -> None:
        self.model, self.view, self.quality, self.size = model, view, quality, size
        self._drawing: Any = None  # MuJoCo's
        self._layers: Any = None  # ours
        self._layered = quality.cell > 0
        self._checked = False

    def image(self, data: Any) -> np.ndarray:
        """The scene as uint8 [S, S, 3]."""
        picture = self._fit(self._in_layers(data) if self._can_layer(data) else self._whole(data))
        if not self._checked and picture.std() == 0:
            raise NotUsable("OpenGL draws an empty picture on this machine; choose another MUJOCO_GL (egl, osmesa)")
        self._checked = True
        return picture

    def sky(self, data: Any) -> np.ndarray:
        """Where the picture shows no object at all, or scenery, bool [S, S]."""
        import mujoco

        drawing = self._scene(data)
        self._light(False, False)
        drawing.enable_segmentation_rendering()
        numbers, kinds = np.moveaxis(drawing.render(), -1, 0)
        drawing.disable_segmentation_rendering()
        scenery = [self.model.geom(name).id for name in self.view.scenery]
        empty = (numbers == -1) | ((kinds == mujoco.mjtObj.mjOBJ_GEOM) & np.isin(numbers, scenery))
        mask = self._cut(np.repeat(np.uint8(255) * empty[..., None], 3, axis=2))
        return self._fit(mask)[..., 0] > 127

    def close(self) -> None:
        for opened in (self._drawing, self._layers):
            if opened is not None:
                opened.close()
        self._drawing = self._layers = None
        OPEN.discard(self)

    @property
    def drawn(self) -> int:
        """Pixels a side of the whole picture, of which the view may be a part."""
        return self.view.draw_size or self.size

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The part of it that is wanted: left, upper, right, lower."""
        if self.view.crop is None:
            return 0, 0, self.drawn, self.drawn
        left, upper, right, lower = (round(side) for side in self.view.crop)
        return left, upper, right, lower

    def _whole(self, data: Any) -> np.ndarray:
        drawing = self._scene(data)
        self._light(self.quality.shadows, self.quality.reflections)
        return self._cut(drawing.render())

    def _in_layers(self, data: Any) -> np.ndarray:
        return self._layers.image(data)  # type: ignore[no-any-return]

    def _can_layer(self, data: Any) -> bool:
        if self._layered and self._layers is None:
            from coworld_bench.envs.drawing.layers import Layers
            from coworld_bench.envs.drawing.parts import Unsupported

            try:
                self._layers = Layers(self.model, data, self._make_camera(), self.drawn, self.box, self.quality)
            except Unsupported:
                self._layered = False
            except Exception as error:  # as in _open
                raise opengl_missing(error) from error
            else:
                self._remember()
        return self._layered

    def _scene(self, data: Any) -> Any:
        if self._drawing is None:
            self._drawing = self._open()
            self._camera = self._make_camera()
            self._remember()
        self._drawing.update_scene(data, self._camera)
        return self._drawing

    def _remember(self) -> None:
        OPEN.add(self)
        atexit.unregister(close_all)  # now it runs before the OpenGL that was loaded by now goes away
        atexit.register(close_all)

    def _open(self) -> Any:
        import mujoco

        # One that is not yet open can be closed: without this, a failure writes a second, misleading error.
        drawing = type("Drawing", (mujoco.Renderer,), {"_gl_context": None, "_mjr_context": None})
        with self._quality(), lighter_meshes(self.model, self.quality.faces):
            try:
                return drawing(self.model, self.drawn, self.drawn)
            except Exception as error:  # AttributeError, FatalError, EGLError, ...: what is missing decides
                raise opengl_missing(error) from error

    @contextmanager
    def _quality(self) -> Iterator[None]:
        """Inside, the model asks for this quality; a context takes it over when it is made."""
        wanted, quality, whole = self.quality, self.model.vis.quality, self.model.vis.global_
        names = "shadowsize", "offsamples", "numslices", "numstacks"
        before = [getattr(quality, name) for name in names], (whole.offwidth, whole.offheight)
        quality.shadowsize = wanted.shadow_pixels or quality.shadowsize
        quality.offsamples = wanted.samples if wanted.samples >= 0 else quality.offsamples
        if wanted.slices:
            quality.numslices, quality.numstacks = wanted.slices, wanted.slices // 2
        whole.offwidth = whole.offheight = self.drawn  # the buffer is cleared whole at every frame
        try:
            yield
        finally:
            for name, value in zip(names, before[0], strict=True):
                setattr(quality, name, value)
            whole.offwidth, whole.offheight = before[1]

    def _make_camera(self) -> Any:
        if not isinstance(self.view.camera, FreeCamera):
            return self.view.camera
        import mujoco

        camera, wanted = mujoco.MjvCamera(), self.view.camera
        mujoco.mjv_defaultFreeCamera(self.model, camera)
        camera.lookat[:] = wanted.lookat
        camera.distance, camera.azimuth, camera.elevation = wanted.distance, wanted.azimuth, wanted.elevation
        return camera

    def _light(self, shadows: bool, reflections: bool) -> None:
        from mujoco import mjtRndFlag

        self._drawing.scene.flags[mjtRndFlag.mjRND_SHADOW] = shadows
        self._drawing.scene.flags[mjtRndFlag.mjRND_REFLECTION] = reflections

    def _cut(self, picture: np.ndarray) -> np.ndarray:
        left, upper, right, lower = self.box
        return picture[upper:lower, left:right]

    def _fit(self, picture: np.ndarray) -> np.ndarray:
        """The wanted box as it is observed."""
        if picture.shape[:2] != (self.size, self.size):
            from PIL import Image

            reduced = Image.fromarray(picture).resize((self.size, self.size), resample=Image.Resampling.LANCZOS)
            picture = np.asarray(reduced)
        return np.ascontiguousarray(picture[::-1] if self.view.upside_down else picture)


OPEN: weakref.WeakSet[Renderer] = weakref.WeakSet()


def close_all() -> None:
    """Close every renderer that is still open."""
    for renderer in list(OPEN):
        renderer.close()


def opengl_missing(error: object) -> NotUsable:
    """The error that says how to get OpenGL."""
    backend = os.environ.get("MUJOCO_GL", "")
    return NotUsable(
        f"MuJoCo cannot draw with MUJOCO_GL={backend or 'unset'} ({error}); install it with: {APT_LINE}, and leave "
        "MUJOCO_GL unset or set it to egl before Python starts"
    )


PROBE = """
import json, mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 64, 64) as renderer:
    renderer.update_scene(data)
    assert renderer.render().std() > 0, "the picture is empty"
    from OpenGL import GL
    print(json.dumps({"renderer": GL.glGetString(GL.GL_RENDERER).decode(),
                      "version": GL.glGetString(GL.GL_VERSION).decode()}))
"""


@lru_cache(maxsize=1)
def check_opengl() -> dict[str, str]:
    """What draws on this machine (`backend`, `renderer`, `version`), found in a process of its own.

    Raises NotUsable, with the command that installs OpenGL, where nothing does."""
    choose_backend()
    try:
        probe = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise opengl_missing(f"no picture within {PROBE_SECONDS} s") from error
    if probe.returncode:
        raise opengl_missing((probe.stderr.strip().splitlines() or ["no message"])[-1])
    return {"backend": os.environ["MUJOCO_GL"], **json.loads(probe.stdout.splitlines()[-1])}


def gl_info() -> dict[str, str]:
    """What draws on this machine, for the metadata of datasets; `renderer` is `none` where nothing does."""
    try:
        return dict(check_opengl())
    except NotUsable:
        return {"backend": os.environ.get("MUJOCO_GL", ""), "renderer": "none", "version": ""}
