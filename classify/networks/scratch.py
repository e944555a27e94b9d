"""The sources' convolutional network, trained from nothing on the images themselves."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np

from classify.networks.checkpoint import Checkpoint
from classify.networks.training import Network, compiled, train
from extract.images.decode import decode, reading, squash
from extract.images.views import rotate_and_darken
from extract.network.importing import import_keras
from features import Failed, Refused, Stack
from features.check import images_of
from features.runtime.log import log
from features.runtime.machine import cores
from features.source import Unreadable

SIDE = 128


class Scratch(Network):
    """A CNN of eight conv layers on 128×128 pixels: the yardstick without transfer.

    Rows only say which images; their pixels are read again from `attrs["dataset_root"]`. Training images are rotated
    by up to 90° and darkened, as in the sources, anew each epoch; so of rows that are views it takes the image itself.

    Args:
        epochs: maximum number; the validation loss decides when to stop.
        rate: Adam's learning rate; the sources publish none.
        random_state: seed of weights, validation rows, order and augmentation.

    Example:
        Scratch(epochs=50).fit(train, train.y).predict(test)
    """

    def __init__(self, epochs: int = 50, rate: float = 3e-4, random_state: int = 0) -> None:
        self.epochs = epochs
        self.rate = rate
        self.random_state = random_state

    def fit(self, X: Stack, y: np.ndarray, checkpoint: Checkpoint | None = None) -> Self:
        """Fit to the images of a stack's rows, (n,) labels; `checkpoint`: see `train`."""
        self.classes_, y = np.unique(y, return_inverse=True)
        images = np.flatnonzero(_stack(X).view == 0)
        X, y = X.take(images), y[images]
        pixels = read_pixels(X)
        import_keras().utils.set_random_seed(self.random_state)
        self.model_ = cnn(len(self.classes_))
        split = self.sides(X, y)
        trained = train(
            compiled(self.model_, self.rate),
            pixels,
            y,
            split,
            self.epochs,
            self.random_state,
            rotate_and_darken,
            checkpoint,
        )
        self._keep(trained)
        return self

    def _inputs(self, X: Any) -> np.ndarray:
        return read_pixels(_stack(X))


def cnn(classes: int) -> Any:
    """The sources' network: (batch, 128, 128, 3) RGB 0–255 → (batch, classes).

    10,588,458 parameters at ten classes. The sources publish output shapes and counts; what follows from those:
    each block is a padded and then an unpadded convolution, the last block's kernels are 5×5
    (128·512·5² + 512 = 1,638,912), its pool leaves 2×2 of 10×10. Rates of dropout are unpublished.
    """
    keras = import_keras()
    layers = keras.layers
    net = keras.Sequential([keras.Input((SIDE, SIDE, 3)), layers.Rescaling(1 / 255)])
    for channels, kernel, pool in ((32, 3, 2), (64, 3, 2), (128, 3, 2), (512, 5, 5)):
        net.add(layers.Conv2D(channels, kernel, padding="same", activation="relu"))
        net.add(layers.Conv2D(channels, kernel, activation="relu"))
        net.add(layers.MaxPooling2D(pool))
        net.add(layers.Dropout(0.25))
    net.add(layers.Flatten())
    net.add(layers.Dense(1024, activation="relu"))
    net.add(layers.Dropout(0.5))
    net.add(layers.Dense(classes, activation="softmax"))
    return net


def read_pixels(stack: Stack) -> np.ndarray:
    """The images of a stack's rows, squashed to (n, 128, 128, 3) uint8 RGB, in a temporary file that is mapped.

    Raises:
        Refused: their folder is not there.
        Failed: an image can no longer be read.
    """
    source = images_of(stack)
    wanted, how = stack.field("sha256"), reading(stack.attrs)
    pixels = np.memmap(tempfile.TemporaryFile(), "u1", "w+", shape=(len(stack), SIDE, SIDE, 3))  # noqa: SIM115

    def read(row: int) -> None:
        try:
            file = source.read(stack.paths[row])
            if file.sha256.tobytes() != wanted[row].tobytes():
                raise Unreadable("it changed since the stack was made")
            pixels[row] = squash(decode(file.data, **how), SIDE)
        except Unreadable as error:
            raise Failed(f"{source.root / stack.paths[row]}, a row of {stack.path}, cannot be read: {error}") from None

    log.info(f"reading {len(stack)} photos from {source.root} …")
    with ThreadPoolExecutor(cores()) as readers:
        list(readers.map(read, range(len(stack))))
    return pixels


def _stack(X: Any) -> Stack:
    if not isinstance(X, Stack):
        raise Refused("the from-scratch network learns from photos: give it a stack, whose rows say which")
    return X
