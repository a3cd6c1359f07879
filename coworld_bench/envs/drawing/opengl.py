"""Thin helpers over OpenGL: programs, textures to draw into, buffers. All need a current context.

MuJoCo is imported first: it tells PyOpenGL which platform to use."""

from __future__ import annotations

import ctypes
from typing import Any

import mujoco
import numpy as np
from OpenGL import GL

FLOAT_SIZE = 4
COLOUR, PLACE, DEPTH = GL.GL_RGBA8, GL.GL_RGBA32F, GL.GL_DEPTH_COMPONENT24  # what a texture holds


def program(vertex: str, fragment: str, attributes: tuple[str, ...] = (), outputs: tuple[str, ...] = ()) -> int:
    """A linked program whose attributes and outputs have the numbers of their places."""
    made = GL.glCreateProgram()
    for kind, source in ((GL.GL_VERTEX_SHADER, vertex), (GL.GL_FRAGMENT_SHADER, fragment)):
        shader = GL.glCreateShader(kind)
        GL.glShaderSource(shader, source)
        GL.glCompileShader(shader)
        if not GL.glGetShaderiv(shader, GL.GL_COMPILE_STATUS):
            raise RuntimeError(f"OpenGL refuses a shader: {GL.glGetShaderInfoLog(shader)!r}")
        GL.glAttachShader(made, shader)
        GL.glDeleteShader(shader)
    for place, name in enumerate(attributes):
        GL.glBindAttribLocation(made, place, name)
    for place, name in enumerate(outputs):
        GL.glBindFragDataLocation(made, place, name)
    GL.glLinkProgram(made)
    if not GL.glGetProgramiv(made, GL.GL_LINK_STATUS):
        raise RuntimeError(f"OpenGL cannot link a program: {GL.glGetProgramInfoLog(made)!r}")
    return int(made)


def texture(width: int, height: int, internal: int, samples: int = 0) -> int:
    """An empty texture to draw into, looked up without filtering; with two samples a pixel or more each is kept."""
    made = int(GL.glGenTextures(1))
    if samples > 1:
        GL.glBindTexture(GL.GL_TEXTURE_2D_MULTISAMPLE, made)
        GL.glTexImage2DMultisample(GL.GL_TEXTURE_2D_MULTISAMPLE, samples, internal, width, height, True)
        return made
    given = GL.GL_DEPTH_COMPONENT if internal == DEPTH else GL.GL_RGBA
    GL.glBindTexture(GL.GL_TEXTURE_2D, made)
    GL.glTexImage2D(GL.GL_TEXTURE_2D, 0, internal, width, height, 0, given, GL.GL_FLOAT, None)
    for name, value in (
        (GL.GL_TEXTURE_MIN_FILTER, GL.GL_NEAREST), (GL.GL_TEXTURE_MAG_FILTER, GL.GL_NEAREST),
        (GL.GL_TEXTURE_WRAP_S, GL.GL_CLAMP_TO_EDGE), (GL.GL_TEXTURE_WRAP_T, GL.GL_CLAMP_TO_EDGE),
    ):  # fmt: skip
        GL.glTexParameteri(GL.GL_TEXTURE_2D, name, value)
    return made


def shadow_texture(width: int, height: int) -> int:
    """Depths whose lookup tells whether a depth is nearer than what is stored."""
    made = texture(width, height, DEPTH)
    GL.glTexParameteri(GL.GL_TEXTURE_2D, GL.GL_TEXTURE_COMPARE_MODE, GL.GL_COMPARE_REF_TO_TEXTURE)
    GL.glTexParameteri(GL.GL_TEXTURE_2D, GL.GL_TEXTURE_COMPARE_FUNC, GL.GL_LEQUAL)
    return made


def target(colours: list[int], depths: int, samples: int = 0) -> int:
    """A framebuffer that draws into these textures."""
    kind = GL.GL_TEXTURE_2D_MULTISAMPLE if samples > 1 else GL.GL_TEXTURE_2D
    made = GL.glGenFramebuffers(1)
    GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, made)
    names = [GL.GL_COLOR_ATTACHMENT0 + place for place in range(len(colours))]
    for name, each in zip(names, colours, strict=True):
        GL.glFramebufferTexture2D(GL.GL_FRAMEBUFFER, name, kind, each, 0)
    GL.glFramebufferTexture2D(GL.GL_FRAMEBUFFER, GL.GL_DEPTH_ATTACHMENT, kind, depths, 0)
    GL.glDrawBuffers(len(names), names) if names else GL.glDrawBuffer(GL.GL_NONE)
    GL.glReadBuffer(names[0] if names else GL.GL_NONE)
    if GL.glCheckFramebufferStatus(GL.GL_FRAMEBUFFER) != GL.GL_FRAMEBUFFER_COMPLETE:
        raise RuntimeError("OpenGL cannot draw into these textures")
    return int(made)


def model_texture(model: Any, number: int) -> tuple[int, int]:
    """A texture of the model as MuJoCo uploads it; returns its kind (2D or cube) and its name."""
    width, height, channels = (int(each[number]) for each in (model.tex_width, model.tex_height, model.tex_nchannel))
    first = int(model.tex_adr[number])
    pixels = np.ascontiguousarray(model.tex_data[first : first + width * height * channels])
    given = {3: GL.GL_RGB, 4: GL.GL_RGBA}[channels]
    made = int(GL.glGenTextures(1))
    GL.glPixelStorei(GL.GL_UNPACK_ALIGNMENT, 1)
    if model.tex_type[number] == mujoco.mjtTexture.mjTEXTURE_2D:
        kind, wrap = GL.GL_TEXTURE_2D, GL.GL_REPEAT
        GL.glBindTexture(kind, made)
        GL.glTexImage2D(kind, 0, given, width, height, 0, given, GL.GL_UNSIGNED_BYTE, pixels)
    else:
        kind, wrap = GL.GL_TEXTURE_CUBE_MAP, GL.GL_CLAMP_TO_EDGE
        GL.glBindTexture(kind, made)
        sides = np.broadcast_to(pixels, (6, pixels.size)) if width == height else pixels.reshape(6, -1)
        for side in range(6):
            face = GL.GL_TEXTURE_CUBE_MAP_POSITIVE_X + side
            data = np.ascontiguousarray(sides[side])
            GL.glTexImage2D(face, 0, given, width, width, 0, given, GL.GL_UNSIGNED_BYTE, data)
    for name, value in (
        (GL.GL_TEXTURE_MIN_FILTER, GL.GL_LINEAR_MIPMAP_LINEAR), (GL.GL_TEXTURE_MAG_FILTER, GL.GL_LINEAR),
        (GL.GL_TEXTURE_WRAP_S, wrap), (GL.GL_TEXTURE_WRAP_T, wrap), (GL.GL_TEXTURE_WRAP_R, wrap),
    ):  # fmt: skip
        GL.glTexParameteri(kind, name, value)
    GL.glGenerateMipmap(kind)
    return int(kind), made


class Mesh:
    """Corners in the graphics card's memory; `sizes` are the floats of each attribute."""

    def __init__(self, corners: np.ndarray, faces: np.ndarray, sizes: tuple[int, ...]) -> None:
        self._array = GL.glGenVertexArrays(1)
        self._buffers = GL.glGenBuffers(2)
        self._count = faces.size
        GL.glBindVertexArray(self._array)
        for kind, buffer, data in (
            (GL.GL_ARRAY_BUFFER, self._buffers[0], np.ascontiguousarray(corners, np.float32)),
            (GL.GL_ELEMENT_ARRAY_BUFFER, self._buffers[1], np.ascontiguousarray(faces, np.uint32)),
        ):
            GL.glBindBuffer(kind, buffer)
            GL.glBufferData(kind, data.nbytes, data, GL.GL_STATIC_DRAW)
        first = 0
        for place, size in enumerate(sizes):
            GL.glEnableVertexAttribArray(place)
            offset = ctypes.c_void_p(first * FLOAT_SIZE)
            GL.glVertexAttribPointer(place, size, GL.GL_FLOAT, False, sum(sizes) * FLOAT_SIZE, offset)
            first += size
        GL.glBindVertexArray(0)

    def draw(self) -> None:
        GL.glBindVertexArray(self._array)
        GL.glDrawElements(GL.GL_TRIANGLES, self._count, GL.GL_UNSIGNED_INT, None)

    def free(self) -> None:
        GL.glDeleteVertexArrays(1, [self._array])
        GL.glDeleteBuffers(2, self._buffers)
