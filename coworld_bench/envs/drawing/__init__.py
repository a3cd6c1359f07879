"""Our own drawing of MuJoCo scenes: what stands still is drawn once, what moves is drawn over it.

`shapes` tessellates as MuJoCo does, `parts` lists what a model shows, `shaders` and `opengl` are the graphics card's
side, `layers` puts a picture together.
"""
