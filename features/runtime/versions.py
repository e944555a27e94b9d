"""The installed versions of packages."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from platform import python_version


def installed(names: Iterable[str]) -> dict[str, str]:
    """Version of Python, and of each of these packages that is there: the first on the path, which is imported."""
    versions = {"python": python_version()}
    for name in names:
        try:
            versions[name] = version(name)
        except (PackageNotFoundError, KeyError):  # KeyError: it is broken, and does not say
            continue
    return versions
