"""Modules of the user's own that have the name of one that we import, and are found before it.

The three packages load this file by its path before they import anything, for the name `features` may be taken.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

OURS = Path(__file__).resolve().parents[2]
NEEDS = {  # package → what it imports, at once or later
    "features": ("numpy", "h5py", "tqdm"),
    "extract": ("features", "PIL", "keras", "tensorflow", "jax", "openvino", "onnx", "onnxruntime", "distributed"),
    "classify": ("extract", "sklearn", "scipy", "joblib", "xgboost", "skops", "jinja2"),
}


def in_the_way(package: str) -> str:
    """What to tell where the folder that Python looks into first has a module named like a package, or like one that it
    needs; else the empty string.

    That folder is the working directory of `python -m`, and a script's own. A folder without `__init__.py` is no
    module: `features/stacks`, which stage one makes there, hides nothing.
    """
    first = Path(sys.path[0]).resolve()
    if first == OURS:
        return ""
    for name in _needed(package):
        for file in (first / f"{name}.py", first / name / "__init__.py"):
            if file.is_file():
                return f"{file} is in the way: Python takes it for the package {name}. Rename it, or work elsewhere"
    return ""


def check_free(package: str) -> None:
    """Stop where a module is in the way of a package that is being imported.

    Raises:
        ImportError: there is one; on the command line it is one line and exit code 2.
    """
    if told := in_the_way(package):
        if sys.argv[:1] != ["-m"]:  # what Python puts there while it looks for the module to run
            raise ImportError(told)
        print(f"error: {told}", file=sys.stderr)
        sys.exit(2)


def _needed(package: str) -> Iterator[str]:
    yield package
    for name in NEEDS.get(package, ()):
        yield from _needed(name)
