"""Which packages decide a model's numbers."""

from importlib.metadata import PackageNotFoundError, version
from platform import python_version

PACKAGES = ("numpy", "scikit-learn", "scipy", "xgboost", "xgboost-cpu", "keras", "tensorflow", "tensorflow-cpu")


def versions() -> dict[str, str]:
    """Installed versions of what decides a model's numbers."""
    found = {"python": python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
