"""Imports go one way, and importing the package loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = {
    "values": [
        "config", "costs", "devices", "errors", "files", "pages", "paths", "plans", "provenance", "recipes", "seeding",
        "stopping", "tasks",
    ],
    "boundaries": ["data", "envs"],
    "models": [
        "checkpoints", "dreamer", "feeding", "fusing", "latent", "losses", "nets", "pixel_nets", "replay", "resnet", "rssm",
        "scans",
    ],
    "methods": ["alternating", "coworld", "coworld_multi", "lompo", "methods", "model_free", "offline", "online"],
    "reporting": ["reporting"],
    "harness": [
        "anchors", "api", "bench", "benchmarks", "checking", "collecting", "domains", "evaluation", "health",
        "reevaluation", "rollouts", "run_spec", "sources", "tracking", "training",
    ],
    "cli": ["cli"],
}  # fmt: skip
BELOW = {
    "values": set(),
    "boundaries": {"values"},
    "models": {"values", "boundaries"},
    "methods": {"values", "boundaries", "models"},
    "reporting": {"values"},
    "harness": {"values", "boundaries", "models", "methods", "reporting"},
    "cli": {"values", "boundaries", "models", "methods", "reporting", "harness"},
}
LAYER_OF = {module: layer for layer, modules in LAYERS.items() for module in modules}
HEAVY = ("torch", "mujoco", "metaworld", "dm_control", "pandas", "matplotlib", "scipy", "gymnasium", "zarr")


def top_modules() -> dict[str, list[Path]]:
    """The files of every module or subpackage directly below the package."""
    package = ROOT / "coworld_bench"
    found = {path.stem: [path] for path in package.glob("*.py") if path.stem != "__init__"}
    for folder in package.iterdir():
        if (folder / "__init__.py").is_file():
            found[folder.name] = sorted(folder.rglob("*.py"))
    return found


def imported(path: Path) -> set[str]:
    """The modules directly below the package that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names.add(node.module or "")
            if node.module == "coworld_bench":
                names |= {f"coworld_bench.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("coworld_bench.")}


def test_every_module_has_a_layer() -> None:
    assert set(top_modules()) == set(LAYER_OF)


@pytest.mark.parametrize("module", sorted(LAYER_OF))
def test_imports_go_one_way(module: str) -> None:
    layer = LAYER_OF[module]
    for path in top_modules()[module]:
        for other in imported(path) & set(LAYER_OF):
            assert LAYER_OF[other] in BELOW[layer] | {layer}, f"{path.name} ({layer}) imports {other}"


def test_the_walk_sees_an_upward_import(tmp_path: Path) -> None:
    file = tmp_path / "low.py"
    file.write_text("def late():\n    from coworld_bench.bench.run import run\n    return run\n")
    assert imported(file) == {"bench"}


@pytest.mark.parametrize("path", sorted((ROOT / "baselines").glob("*.py")), ids=lambda path: path.stem)
def test_a_baseline_imports_shared_code_alone(path: Path) -> None:
    allowed = BELOW["methods"] | {"methods"}
    for other in imported(path):
        assert LAYER_OF[other] in allowed, f"{path.name} imports {other}"
    siblings = {sibling.stem for sibling in path.parent.glob("*.py")}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not siblings & {name.split(".")[0] for name in names} and "baselines" not in str(names), path.name


@pytest.mark.parametrize("folder", ["datasets", "baselines", "reports"])
def test_shipped_folders_are_no_packages(folder: str) -> None:
    assert not list((ROOT / folder).rglob("__init__.py"))  # `datasets` would shadow another library


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.strip()


def test_importing_the_package_is_light() -> None:
    loaded = run_python(f"import coworld_bench, sys; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert loaded == "[]"


def test_help_loads_no_torch() -> None:
    code = "import sys; from coworld_bench.cli import main; main(['run', '--help']); print('torch' in sys.modules)"
    assert run_python(code).splitlines()[-1] == "False"


def test_public_names_are_callables_even_after_every_submodule_is_loaded() -> None:
    code = """
import importlib, pkgutil
import coworld_bench
for module in pkgutil.iter_modules(coworld_bench.__path__):
    importlib.import_module(f"coworld_bench.{module.name}")
from coworld_bench import collect, evaluate, load_method, make_env, open_dataset, report, run, train
print(all(callable(getattr(coworld_bench, name)) for name in coworld_bench.__all__ if name != "__version__"))
print(set(coworld_bench.HOMES) | {"__version__"} == set(coworld_bench.__all__))
"""
    assert run_python(code).split() == ["True", "True"]


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import coworld_bench

    with pytest.raises(AttributeError, match="collekt"):
        coworld_bench.collekt  # noqa: B018
