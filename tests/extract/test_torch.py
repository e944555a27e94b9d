"""Keras on PyTorch: the rows of every family are TensorFlow's, or it is refused. `make torch` runs these."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_backbones import APPLICATIONS, calibrate, close
from test_engines import FAMILIES, SIDE
from tiny import environment

from extract import BACKBONES
from extract.network.base import load_base
from extract.network.forward import compile_forward
from extract.network.importing import import_keras
from extract.network.network import KerasNetwork

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed; see `make torch`"),
]
PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), "u1")
REFUSED = ("nasnetmobile",)
CHILD = """
import sys
from pathlib import Path
import numpy as np
from extract import BACKBONES
from extract.network.base import load_base
from extract.network.forward import compile_forward
from extract.network.network import KerasNetwork
from features import Refused

folder = Path(sys.argv[1])
for name in sys.argv[2:]:
    row = BACKBONES[name]
    pixels = np.load(folder / f"{name}-pixels.npy")
    try:
        base, _ = load_base(row, "formula" if name == "scattering" else "random", pixels.shape[1], 3)
    except Refused as error:
        (folder / f"{name}.txt").write_text(str(error))
        continue
    with np.load(folder / f"{name}.npz") as weights:
        base.set_weights([weights[f"arr_{i}"] for i in range(len(weights))])
    *_, rows = compile_forward(KerasNetwork.around(base, row), 4, "cpu", "keras")(pixels)
    np.save(folder / f"{name}.npy", rows)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rows of every family, TensorFlow's and PyTorch's, from the same weights."""
    folder, names = tmp_path_factory.mktemp("torch"), [*FAMILIES, "scattering"]
    keras = import_keras()
    for name in names:
        row = BACKBONES[name]
        side = row.size if name == "scattering" else SIDE
        base, _ = load_base(row, "formula" if name == "scattering" else "random", side, 3)
        if name in APPLICATIONS:
            calibrate(base, getattr(keras.applications, row.module).preprocess_input)
        np.savez(folder / f"{name}.npz", *base.get_weights())
        np.save(folder / f"{name}-pixels.npy", PIXELS[:, :side, :side])
        *_, rows = compile_forward(KerasNetwork.around(base, row), 4, "cpu", "keras")(PIXELS[:, :side, :side].copy())
        np.save(folder / f"{name}-expected.npy", rows)
    env = environment(KERAS_BACKEND="torch")
    done = subprocess.run([sys.executable, "-c", CHILD, folder, *names], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", [*FAMILIES, "scattering"])
def test_the_rows_are_tensorflows(made: Path, name: str) -> None:
    """Guards golden rows on PyTorch. NASNet's are wrong there, says Keras, and does not build it."""
    if name in REFUSED:
        assert "is not available with the torch backend" in (made / f"{name}.txt").read_text()
        return
    close(np.load(made / f"{name}.npy"), np.load(made / f"{name}-expected.npy"), 3e-4)
