"""Keras: imported only where it is needed, and on which backend. It takes four seconds on TensorFlow."""

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from features import Refused


def import_keras() -> Any:
    """Keras on its backend (`KERAS_BACKEND`).

    Raises:
        Refused: the backend is not installed, or there is none of that name.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "0"  # a user's 1 has TensorFlow look for Keras 2, also while OpenVINO converts
    if "keras" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            with _held_back_stderr():
                importlib.import_module("keras")
        except (ImportError, ValueError) as error:  # ValueError: Keras knows no such backend
            raise Refused(
                f"Keras cannot be imported on its backend, {os.environ.get('KERAS_BACKEND', 'tensorflow')} ({error}). "
                "Install it: pip install -e '.[cpu]' (or '.[gpu]'); or set KERAS_BACKEND to one that is here: "
                "tensorflow or jax"
            ) from None
    return sys.modules["keras"]


def backend_name() -> str:
    """The backend that Keras runs on, or would run on if it were imported."""
    if "keras" in sys.modules:
        return str(sys.modules["keras"].backend.backend())
    if named := os.environ.get("KERAS_BACKEND"):
        return named
    return str(settings()["backend"])


def settings() -> dict[str, Any]:
    """What the user's `keras.json` says, or Keras takes where it says nothing."""
    usual = {"backend": "tensorflow", "floatx": "float32", "image_data_format": "channels_last", "epsilon": 1e-7}
    try:
        told = json.loads((keras_home() / "keras.json").read_text("utf-8"))
        return {name: told.get(name, value) for name, value in usual.items()}
    except (OSError, ValueError, AttributeError):
        return usual


def keras_home() -> Path:
    """Keras's own folder: `KERAS_HOME`, else `~/.keras`."""
    return Path(os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras"))


@contextmanager
def _held_back_stderr() -> Iterator[None]:
    """Show what is written to file descriptor 2 only if the block fails.

    TensorFlow greets from C++ before any of its log settings count; Python's sys.stderr does not see that.
    """
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)
