import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny import environment, photos, run
from withheld import locked_by_a_child, nothing_opens

from extract.backbones import BACKBONES
from extract.network.base import cut, imagenet_file, load_base, weights_identity
from extract.network.importing import import_keras
from features import Failed, Refused
from features.source import hashed

pytestmark = pytest.mark.slow

VGG, MOBILE = BACKBONES["vgg16"], BACKBONES["mobilenetv2"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small MobileNetV2's random weights as .weights.h5, as .keras and in the older .h5, as ImageNet's are."""
    folder = tmp_path_factory.mktemp("weights")
    base, _ = load_base(MOBILE, "random", 32, seed=5)
    base.save_weights(folder / "mobile.weights.h5")
    base.save(folder / "mobile.keras")
    base.save(folder / "mobile.h5")
    return {"h5": folder / "mobile.weights.h5", "keras": folder / "mobile.keras", "older": folder / "mobile.h5"}


@pytest.mark.parametrize("kind", ["h5", "keras", "older"])
def test_a_weights_file_is_loaded_and_identified(saved: dict[str, Path], kind: str) -> None:
    """Guards `--weights FILE`: the arrays of the file, at another input size too, and the SHA-256 of its bytes."""
    import hashlib

    made, _ = load_base(MOBILE, "random", 32, seed=5)
    base, sha256 = load_base(MOBILE, str(saved[kind]), 64, seed=0)
    for a, b in zip(base.get_weights(), made.get_weights(), strict=True):
        assert np.array_equal(a, b)
    assert sha256 == hashlib.sha256(saved[kind].read_bytes()).hexdigest()
    assert weights_identity(MOBILE, str(saved[kind]), 0) == {"weights_sha256": sha256}


@pytest.fixture
def imagenet(saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which Keras finds MobileNetV2's ImageNet weights; here, those of `saved`."""
    keras = import_keras()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras.src.utils.file_utils.config, "keras_home", lambda: str(tmp_path))
    file = imagenet_file(MOBILE)
    file.parent.mkdir()
    return Path(shutil.copy(saved["older"], file))


@pytest.mark.parametrize("kind", ["h5", "older"])
def test_weights_that_another_process_has_locked(saved: dict[str, Path], kind: str) -> None:
    """91: Keras's own files are read without HDF5's locks too, and h5py is left as it was."""
    usual = h5py.File.__init__
    with locked_by_a_child(saved[kind]):
        base, _ = load_base(MOBILE, str(saved[kind]), 32, seed=0)
        assert h5py.File.__init__ is usual
        with pytest.raises(BlockingIOError):
            h5py.File(saved[kind])
    for a, b in zip(base.get_weights(), load_base(MOBILE, "random", 32, seed=5)[0].get_weights(), strict=True):
        assert np.array_equal(a, b)


def test_imagenet_weights_that_another_process_has_locked(imagenet: Path) -> None:
    """91: they are read, and not said to be damaged."""
    with locked_by_a_child(imagenet):
        base, sha256 = load_base(MOBILE, "imagenet", MOBILE.size, seed=0)
    assert sha256 == hashed(imagenet)
    for a, b in zip(base.get_weights(), load_base(MOBILE, "random", 32, seed=5)[0].get_weights(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("kind", ["h5", "keras", "older", "imagenet"])
def test_weights_that_the_system_does_not_open(saved: dict[str, Path], imagenet: Path, kind: str) -> None:
    """91: the reason is told; nobody is told to delete a file that may be whole."""
    file, weights, size = (imagenet, kind, 224) if kind == "imagenet" else (saved[kind], str(saved[kind]), 32)
    with pytest.raises(Failed) as caught, nothing_opens():
        load_base(MOBILE, weights, size, seed=0)
    assert str(caught.value) == f"{file} cannot be opened: Too many open files"


@pytest.mark.parametrize("kind", ["h5", "keras"])
def test_weights_that_do_not_fit(saved: dict[str, Path], kind: str) -> None:
    """Guards against a base with half of another's weights: refused, file and backbone named."""
    with pytest.raises(Refused, match=rf"weights file .*{saved[kind].name} does not fit vgg16 without its top: "):
        load_base(VGG, str(saved[kind]), 32, seed=0)


@pytest.mark.parametrize("kind", ["h5", "keras"])
def test_half_a_weights_file(saved: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """Guards against what an interrupted download leaves."""
    half = tmp_path / saved[kind].name
    half.write_bytes(saved[kind].read_bytes()[: saved[kind].stat().st_size // 2])
    with pytest.raises(Failed, match=rf"weights file .*{half.name} is damaged or incomplete: ") as caught:
        load_base(MOBILE, str(half), 32, seed=0)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    """Guards the messages for a file that is not there and for one of another kind."""
    with pytest.raises(Refused, match=r"no weights file at gone\.h5 \(expected imagenet, random, or a \.h5"):
        weights_identity(VGG, "gone.h5", 0)
    (tmp_path / "weights.pt").write_bytes(b"torch")
    with pytest.raises(Refused, match=r"weights\.pt does not fit vgg16 without its top"):
        load_base(VGG, str(tmp_path / "weights.pt"), 32, seed=0)


def test_random_weights_are_seeded() -> None:
    """Guards that a stack on random weights can be made again: same seed, same arrays and hash; another, others."""
    (one, first), (same, again), (_, other) = (load_base(VGG, "random", 32, seed) for seed in (1, 1, 2))
    for a, b in zip(one.get_weights(), same.get_weights(), strict=True):
        assert np.array_equal(a, b)
    assert first == again != other
    assert weights_identity(VGG, "random", 1) == {"weights": "random", "seed": 1}


def test_cut() -> None:
    """Guards `--layer`: the shape of that layer; an unknown one is refused with the nearest and with all there are."""
    base, _ = load_base(VGG, "random", 32, seed=0)
    assert cut(base, "block3_pool").output_shape[1:] == (4, 4, 256)
    assert cut(base, "block5_pool").output_shape[1:] == (1, 1, 512)
    with pytest.raises(Refused) as caught:
        cut(base, "block5_pol")
    names = [layer.name for layer in base.layers[1:]]
    assert "vgg16 has no layer 'block5_pol'. Did you mean block5_pool" in str(caught.value)
    assert str(caught.value).endswith(f"Its layers: {' '.join(names)}")


def test_layer_names_do_not_depend_on_what_was_built_before() -> None:
    """Guards layers that Keras numbers: the second base of a process has the names of the first."""
    small = BACKBONES["mobilenetv3small"]
    for _ in range(2):
        base, _ = load_base(small, "random", 32, seed=0)
        assert cut(base, small.layer).output_shape == base.output_shape


def test_a_size_that_the_base_cannot_take() -> None:
    """Guards the message for `--size`."""
    with pytest.raises(Refused, match="inceptionv3 cannot take 32×32 images: .*75"):
        load_base(BACKBONES["inceptionv3"], "random", 32, seed=0)


def test_keras_is_imported_once() -> None:
    """Guards `import_keras`: it gives the module itself."""
    import keras

    assert import_keras() is keras


@pytest.mark.parametrize(
    ("backend", "why"), [("tensorflow", "it is not there"), ("theano", "Unable to import backend")]
)
def test_no_such_backend(tmp_path: Path, backend: str, why: str) -> None:
    """Guards the message where no backend is installed, or none of that name exists: one line, and what to install."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "tensorflow.py").write_text("raise ImportError('it is not there')")
    photos(tmp_path / "photos", classes=2, each=1)
    path = f"{broken}:{environment()['PYTHONPATH']}"
    words = ["extract", "photos", "--backbone", "scattering", "--out", "a.h5"]
    done = run(*words, cwd=tmp_path, PYTHONPATH=path, KERAS_BACKEND=backend)
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: Keras cannot be imported on its backend, {backend} ({why}")
    assert "pip install -e '.[cpu]'" in last and "set KERAS_BACKEND to one that is here" in last
    assert "Traceback" not in done.stderr


def test_a_file_that_keras_skips_in_silence_is_refused(tmp_path, monkeypatch):
    """Keras only warns of what it does not find; injected here as a load that loads nothing at all."""
    keras = import_keras()
    row = BACKBONES["vgg16"]
    base, _ = load_base(row, "random", 32, seed=0)
    base.save_weights(tmp_path / "vgg.weights.h5")
    load_base(row, str(tmp_path / "vgg.weights.h5"), 32, seed=0)
    monkeypatch.setattr(keras.Model, "load_weights", lambda *arguments, **options: None)
    with pytest.raises(Refused, match="does not fit vgg16: it holds no .*kernel"):
        load_base(row, str(tmp_path / "vgg.weights.h5"), 32, seed=0)
