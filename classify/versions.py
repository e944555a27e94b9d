"""Which packages decide a model's numbers."""

from features.runtime.versions import installed

PACKAGES = ("numpy", "scikit-learn", "scipy", "xgboost", "xgboost-cpu", "keras", "tensorflow", "tensorflow-cpu")


def versions() -> dict[str, str]:
    """Installed versions of what decides a model's numbers."""
    return installed(PACKAGES)
