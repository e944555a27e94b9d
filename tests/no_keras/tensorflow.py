"""See keras.py."""

import keras  # noqa: F401
