"""A frozen conv base: built, its weights loaded and identified, cut at a layer."""

import hashlib
import importlib
import random
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from extract.backbones import Backbone
from extract.model_file import ModelFile
from extract.network.importing import import_keras, keras_home
from extract.network.scattering import IDENTITY, scattering
from features import Failed, Refused
from features.hdf5 import opened_without_locks
from features.runtime.errors import check_readable, listed, nearest
from features.source import file_sha256, hashed

EFFICIENTNET_STDDEV = (0.229, 0.224, 0.225)


def weights_identity(backbone: Backbone | ModelFile, weights: str, seed: int) -> dict[str, Any]:
    """The attributes that tell whether a stack was made with these weights, without building the base.

    Args:
        backbone: the base's row.
        weights: `imagenet`, `random`, a file, or `formula`.
        seed: of random weights.

    Returns:
        `weights_sha256` where there is a file or formula to hash; else `weights`, and for random ones `seed`.

    Raises:
        Refused: the file is not there, or the base has no weights to choose.
    """
    if isinstance(backbone, ModelFile):
        return {"weights_sha256": backbone.sha256}
    if backbone.weights == "formula":
        if weights != "formula":
            raise Refused(f"{backbone.name} has no weights, a formula gives its filters: leave --weights {weights} out")
        return {"weights_sha256": IDENTITY}
    if weights == "random":
        return {"weights": weights, "seed": seed}
    if weights == "imagenet":
        digest = file_sha256(imagenet_file(backbone))
        return {"weights_sha256": digest.hex()} if digest else {"weights": weights}
    if not Path(weights).is_file():
        raise Refused(f"no weights file at {weights} (expected imagenet, random, or a .h5, .weights.h5 or .keras file)")
    return {"weights_sha256": hashed(Path(weights))}


def load_base(backbone: Backbone | ModelFile, weights: str, size: int, seed: int) -> tuple[Any, str]:
    """Build a base without its top and give it its weights.

    All weights go into the same network, the one that Keras builds for `imagenet`. That matters for EfficientNet
    B0–B7, which divide by the square root of ImageNet's deviation only when built with those: elsewhere the division
    is folded into their Normalization layer.

    Args:
        backbone: the base's row.
        weights: `imagenet`, `random`, a file, or `formula`.
        size: side of the square input, pixels.
        seed: of random weights.

    Returns:
        the Keras model, (batch, size, size, 3) float32 preprocessed → (batch, h, w, c), and the SHA-256 (hex) of its
        weights file, of the arrays themselves if they are random, or of the formula.

    Raises:
        Failed: the ImageNet weights are not here and cannot be downloaded, or the file is damaged.
        Refused: a file that does not fit the base.
    """
    keras = import_keras()
    if isinstance(backbone, ModelFile):
        return load_model(backbone.file), backbone.sha256
    keras.backend.clear_session()  # layers without a name of their own are numbered from here, alike in every run
    if weights == "formula":
        try:
            return scattering(size), IDENTITY
        except ValueError as error:
            raise _untakable(backbone, size, error) from None
    construct = getattr(keras.applications, backbone.keras_name)
    if weights == "imagenet":
        file = imagenet_file(backbone)
        native = _with_imagenet(construct, backbone, file)
        if size == backbone.size:
            return native, hashed(file)
        keras.backend.clear_session()
    else:
        file = Path(weights)
    if weights == "random":
        keras.utils.set_random_seed(seed)
    try:
        with _own_draws(seed if weights == "random" else None):  # what a file leaves random must not be its own
            base = construct(weights=None, include_top=False, input_shape=(size, size, 3))
    except ValueError as error:
        raise _untakable(backbone, size, error) from None
    if weights == "random":
        digest = hashlib.sha256()
        for array in base.get_weights():
            digest.update(array.tobytes())
        sha256 = digest.hexdigest()
    else:
        _load_file(base, backbone, file)
        sha256 = hashed(file)
    if backbone.module == "efficientnet":
        _fold_rescaling(base)
    return base, sha256


def cut(base: Any, layer: str) -> Any:
    """The base up to and including a layer.

    Raises:
        Refused: it has no such layer; the message lists those it has.
    """
    keras = import_keras()
    names = [item.name for item in base.layers]
    if layer not in names:
        raise Refused(f"{base.name} has no layer {layer!r}.{nearest(layer, names)} Its layers: {' '.join(names[1:])}")
    return keras.Model(base.input, base.get_layer(layer).output, name=base.name)


def imagenet_file(backbone: Backbone) -> Path:
    """Where Keras caches a backbone's ImageNet weights."""
    return keras_home() / "models" / backbone.weights_file


@contextmanager
def _own_draws(seed: int | None) -> Iterator[None]:
    """Keras draws the seeds of its weights from Python's generator, which other threads (Dask's) draw from too."""
    draws: Any = importlib.import_module("keras.src.random.seed_generator")
    shared, draws.python_random = draws.python_random, random.Random(seed)
    try:
        yield
    finally:
        draws.python_random = shared


def _with_imagenet(construct: Any, backbone: Backbone, file: Path) -> Any:
    import_keras().config.disable_interactive_logging()  # Keras would print its download bar to stdout
    why = "is damaged or was not downloaded to its end" if file.exists() else "is not there"
    try:
        with opened_without_locks():
            return construct(weights="imagenet", include_top=False, input_shape=(backbone.size, backbone.size, 3))
    except OSError as error:
        check_readable(file, error)
        raise Failed(
            f"{file} is damaged or was not downloaded to its end ({error}). Delete it and try again."
        ) from None
    except ValueError as error:
        raise _untakable(backbone, backbone.size, error) from None
    except Exception as error:  # Keras raises a bare Exception where a download fails
        if "URL fetch failure" not in str(error):
            raise
        raise Failed(
            f"no ImageNet weights for {backbone.name}: {file} {why} and cannot be downloaded ({error}). "
            f"Get {file.name} on a machine with a network and put it there, or give WEIGHTS=FILE (--weights FILE); "
            f"WEIGHTS=random (--weights random) tries the path without any, and BACKBONE=scattering needs none."
        ) from None


def _untakable(backbone: Backbone, size: int, error: ValueError) -> Refused:
    """Keras says so where images are too small, and of NASNet on PyTorch."""
    return Refused(f"{backbone.name} cannot take {size}×{size} images: {error}")


def _load_file(base: Any, backbone: Backbone, file: Path) -> None:
    """Load a weights file, and make sure that every kernel came from it: Keras only warns of layers that it skips."""
    before = _kernels(base)
    try:
        with warnings.catch_warnings(), opened_without_locks():
            warnings.simplefilter("ignore")
            base.load_weights(file)
    except (OSError, zipfile.BadZipFile) as error:  # .keras is a ZIP file
        check_readable(file, error)
        raise Failed(f"weights file {file} is damaged or incomplete: {error}") from None
    except (ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise Refused(f"weights file {file} does not fit {backbone.name} without its top: {reason}") from None
    missing = [name for name, checksum in _kernels(base).items() if checksum == before[name]]
    if missing:
        raise Refused(f"weights file {file} does not fit {backbone.name}: it holds no {listed(missing)}")


def load_model(file: Path) -> Any:
    """A network in Keras's own format. What it holds is data: a layer that brings code of its own is refused."""
    keras = import_keras()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever a layer's constructor does
        raise Refused(f"{file} cannot be loaded safely: {' '.join(str(error).split())[:300]}") from None
    # A sequential one has no tensors of its own to cut at.
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def _kernels(base: Any) -> dict[str, int]:
    """Checksum of every weight array that is random in a new base."""
    arrays = zip(base.weights, base.get_weights(), strict=True)
    return {weight.path: zlib.crc32(array.tobytes()) for weight, array in arrays if array.ndim > 1}


def _fold_rescaling(base: Any) -> None:
    """(x − mean) / √variance / √deviation, as EfficientNet's ImageNet weights were trained, with one layer less."""
    normalization = next(layer for layer in base.layers if type(layer).__name__ == "Normalization")
    normalization.adapt_variance.assign(normalization.adapt_variance * EFFICIENTNET_STDDEV)
    normalization.finalize_state()
