"""The programs of the graphics card. They follow OpenGL's fixed lighting, which MuJoCo uses: light is computed at the
corners of triangles, clamped to [0, 1] for the lights without shadows together and for each light with one alone, and
interpolated; textures multiply it; the sum is clamped again.

With several samples a pixel, what stands still is kept for each of them, and put together for each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

ATTRIBUTES = ("position", "part", "normal", "coords", "tint", "look")
SIZES = (3, 1, 3, 3, 3, 4)  # floats of each; look: emission, specular, shininess, whether it mirrors


@dataclass(frozen=True)
class Layout:
    """What the programs are made for: counts of lights, of those with shadows (which come first), and of poses."""

    lights: int
    shadows: int
    poses: int
    samples: int  # a pixel; 0 and 1 are the same

    @property
    def floats(self) -> int:
        """The size of the block of uniforms."""
        return 4 * (8 + 2 + 5 * max(self.shadows, 1) + 6 * max(self.lights, 1) + 3 * max(self.poses, 1))


def version(layout: Layout) -> str:
    """And how kept samples are read: each by itself (`sample_of`)."""
    if layout.samples < 2:
        return """#version 150 compatibility
#define KEPT sampler2D
#define sample_of(kept) texelFetch(kept, ivec2(gl_FragCoord.xy), 0)
"""
    return """#version 150 compatibility
#extension GL_ARB_sample_shading : require
#define KEPT sampler2DMS
#define sample_of(kept) texelFetch(kept, ivec2(gl_FragCoord.xy), gl_SampleID)
"""


def header(layout: Layout) -> str:
    """`eyes`: the camera's matrix and its mirror image's; `heads`: where they are. `lamps`, a light each: to it and 1
    for a spotlight; direction and cosine of its cutoff; attenuation and exponent; ambient; diffuse; specular."""
    return f"""{version(layout)}
const int LIGHTS = {layout.lights};
const int SHADOWS = {layout.shadows};
layout(std140) uniform Frame {{
    mat4 eyes[2];
    vec4 head;  // where the camera is, and the mirror's reflectance
    vec4 mirror;  // normal and height
    mat4 light_eyes[{max(layout.shadows, 1)}];
    vec4 zooms[{max(layout.shadows, 1)}];
    vec4 lamps[6 * {max(layout.lights, 1)}];
    vec4 poses[3 * {max(layout.poses, 1)}];
}};
"""


PLACE = """
in vec3 position;
in float part;
vec3 turned(vec3 v) {
    int row = 3 * int(part + 0.5);
    return vec3(dot(poses[row].xyz, v), dot(poses[row + 1].xyz, v), dot(poses[row + 2].xyz, v));
}
vec3 placed(vec3 v) {
    int row = 3 * int(part + 0.5);
    return turned(v) + vec3(poses[row].w, poses[row + 1].w, poses[row + 2].w);
}
"""

LIGHT = """
in vec3 normal, coords, tint;
in vec4 look;
vec3 hue() { return MIRRORED ? head.w * tint : tint; }
vec3 from_light(int number, vec3 place, vec3 n, vec3 to_eye) {
    int row = 6 * number;
    vec3 to_light = lamps[row].xyz;
    float strength = 1.0;
    if (lamps[row].w > 0.5) {
        to_light -= place;
        float far = length(to_light);
        to_light /= far;
        float along = dot(-to_light, lamps[row + 1].xyz);
        vec4 fall = lamps[row + 2];
        strength = along < lamps[row + 1].w ? 0.0 : pow(max(along, 1e-6), fall.w);
        strength /= fall.x + far * (fall.y + far * fall.z);
    }
    float facing = dot(n, to_light);
    vec3 light = (lamps[row + 3].rgb + max(facing, 0.0) * lamps[row + 4].rgb) * hue();
    if (facing > 0.0) {
        float glance = max(dot(n, normalize(to_light + to_eye)), 0.0);
        light += look.y * pow(max(glance, 1e-6), look.z) * lamps[row + 5].rgb;
    }
    return strength * light;
}
"""


def shadow_vertex(layout: Layout, zoomed: bool) -> str:
    """What a light sees; `zoomed`: of the part of its picture in which something moves."""
    zoom = "gl_Position.xy = gl_Position.xy * zooms[which].xy + gl_Position.w * zooms[which].zw;" if zoomed else ""
    return (
        header(layout)
        + PLACE
        + f"""
uniform int which;
void main() {{
    gl_Position = light_eyes[which] * vec4(placed(position), 1.0);
    {zoom}
}}"""
    )


NOTHING = "#version 150 compatibility\nvoid main() {}"


def surface_vertex(layout: Layout, shadowed: bool, mirrored: bool) -> str:
    """Light at the corners. Without `shadowed` all lights are in `base`; `mirrored`: seen in the mirror."""
    eye = int(mirrored)
    head = "head.xyz - 2.0 * (dot(head.xyz, mirror.xyz) - mirror.w) * mirror.xyz" if mirrored else "head.xyz"
    outs = "".join(f"out vec3 lit{s};\n" for s in range(layout.shadows)) if shadowed else ""
    lines = "".join(f"    lit{s} = clamp(from_light({s}, world, n, to_eye), 0.0, 1.0);\n" for s in range(layout.shadows))
    first = layout.shadows if shadowed else 0
    return (
        header(layout)
        + f"const bool MIRRORED = {str(mirrored).lower()};\n"
        + PLACE
        + LIGHT
        + outs
        + f"""
out vec3 base, world, place;
flat out float mirrors;
void main() {{
    world = placed(position);
    vec3 n = normalize(turned(normal)), to_eye = normalize({head} - world);
    base = look.x * hue(){" + 0.3 * hue()" if layout.lights == 0 else ""};
    for (int light = {first}; light < LIGHTS; light++) base += from_light(light, world, n, to_eye);
    base = clamp(base, 0.0, 1.0);
{lines if shadowed else ""}    place = coords;
    mirrors = look.w;
    gl_Position = eyes[{eye}] * vec4(world, 1.0);
}}"""
    )


LOOKUP = """
uniform sampler2D flat_texture;
uniform samplerCube cube_texture;
uniform int kind;  // of texture: 0 none, 1 flat, 2 cube
vec3 painted(vec3 coords) {
    if (kind == 1) return texture(flat_texture, coords.xy).rgb;
    if (kind == 2) return texture(cube_texture, coords).rgb;
    return vec3(1.0);
}
"""

VISIBLE = """
uniform sampler2DShadow moving_shadows, still_shadows;
float seen(int light, vec3 world, bool still, bool moving) {
    vec4 eye = light_eyes[light] * vec4(world, 1.0);
    vec3 at = eye.xyz / eye.w;
    if (eye.w <= 0.0 || any(greaterThan(abs(at), vec3(1.0)))) return 1.0;
    vec2 near = at.xy * zooms[light].xy + zooms[light].zw;
    float depth = 0.5 * at.z + 0.5, result = 1.0, first = float(light), count = float(SHADOWS);
    if (moving && all(lessThan(abs(near), vec2(1.0))))
        result = texture(moving_shadows, vec3((0.5 * near.x + 0.5 + first) / count, 0.5 * near.y + 0.5, depth));
    if (still)
        result *= texture(still_shadows, vec3((0.5 * at.x + 0.5 + first) / count, 0.5 * at.y + 0.5, depth));
    return result;
}
"""


def inputs(layout: Layout, shadowed: bool) -> str:
    lit = "".join(f"in vec3 lit{s};\n" for s in range(layout.shadows)) if shadowed else ""
    return lit + "in vec3 base, world, place;\nflat in float mirrors;\n"


def surface_fragment(layout: Layout, still: bool) -> str:
    """The colour of what moves. `still`: shadows of what stands still fall on it too."""
    flag = "true" if still else "false"
    lights = "".join(f"    colour += seen({s}, world, {flag}, true) * lit{s};\n" for s in range(layout.shadows))
    return (
        header(layout)
        + LOOKUP
        + VISIBLE
        + inputs(layout, True)
        + f"""
uniform sampler2D mirrored;
out vec4 result;
void main() {{
    vec3 colour = base;
{lights}    colour *= painted(place);
    if (mirrors > 0.5) colour += texelFetch(mirrored, ivec2(gl_FragCoord.xy), 0).rgb;
    result = vec4(colour, 1.0);
}}"""
    )


def plain_fragment(layout: Layout, mirrored: bool) -> str:
    """Without shadows: what is seen in the mirror, or through something."""
    clip = "    if (dot(world, mirror.xyz) < mirror.w) discard;\n" if mirrored else ""
    return (
        header(layout)
        + LOOKUP
        + inputs(layout, False)
        + f"""
uniform float alpha;
out vec4 result;
void main() {{
    vec3 colour = base * painted(place);
{clip}    result = vec4(colour, alpha);
}}"""
    )


def still_outputs(layout: Layout) -> tuple[str, ...]:
    return ("result", "where", *(f"share{s}" for s in range(layout.shadows)))


def still_fragment(layout: Layout) -> str:
    """What stands still, taken apart: colour without the lights that cast shadows, position, and their shares."""
    outs = "".join(f"out vec4 share{s};\n" for s in range(layout.shadows))
    shares = "".join(
        f"    share{s} = vec4(paint * seen({s}, world, true, false) * lit{s}, 1.0);\n" for s in range(layout.shadows)
    )
    return (
        header(layout)
        + LOOKUP
        + VISIBLE
        + inputs(layout, True)
        + outs
        + f"""
out vec4 result, where;
void main() {{
    vec3 paint = painted(place);
    result = vec4(paint * base, mirrors);
    where = vec4(world, 1.0);
{shares}}}"""
    )


WHOLE = """#version 150 compatibility
in vec2 position;
void main() { gl_Position = vec4(position, 0.0, 1.0); }"""


def sky_fragment(layout: Layout) -> str:
    """The skybox: MuJoCo turns it a quarter about x."""
    outs = "".join(f"out vec4 share{s};\n" for s in range(layout.shadows))
    shares = "".join(f"    share{s} = vec4(0.0);\n" for s in range(layout.shadows))
    return (
        header(layout)
        + LOOKUP
        + outs
        + f"""
uniform mat3 rays;
out vec4 result, where;
void main() {{
    vec3 ray = rays * vec3(gl_FragCoord.xy, 1.0);
    result = vec4(painted(vec3(ray.x, ray.z, -ray.y)), 0.0);
    where = vec4(0.0);
{shares}}}"""
    )


def compose_fragment(layout: Layout) -> str:
    """What stands still, put together under the shadows of what moves."""
    samplers = "".join(f"uniform KEPT share{s};\n" for s in range(layout.shadows))
    lights = "".join(
        f"    colour += seen({s}, place, false, true) * sample_of(share{s}).rgb;\n" for s in range(layout.shadows)
    )
    return (
        header(layout)
        + VISIBLE
        + samplers
        + f"""
uniform KEPT still, where, depths;
uniform sampler2D mirrored;
out vec4 result;
void main() {{
    vec4 first = sample_of(still);
    vec3 colour = first.rgb, place = sample_of(where).xyz;
{lights}    if (first.a > 0.5) colour += texelFetch(mirrored, ivec2(gl_FragCoord.xy), 0).rgb;
    result = vec4(colour, 1.0);
    gl_FragDepth = sample_of(depths).r;
}}"""
    )


def copy_fragment(layout: Layout) -> str:
    """Kept colours and depths as they are."""
    return (
        version(layout)
        + """
uniform KEPT still, depths;
out vec4 result;
void main() {
    result = sample_of(still);
    gl_FragDepth = sample_of(depths).r;
}"""
    )
