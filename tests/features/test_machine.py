"""How many cores there are, and how many versions of what: what both stages ask of the machine."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny import environment

from features.runtime import machine


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the control group's."""
    (tmp_path / "cpu").mkdir()
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"cpu.max": "400000 100000\n"}, 4),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 16),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
        ({}, 16),
    ],
)
def test_a_quota_is_kept_to(group: Path, files: dict[str, str], count: int) -> None:
    """Guards containers: sixteen threads on a quota of three cores are throttled, on old kernels too."""
    for name, text in files.items():
        (group / name).write_text(text)
    assert machine.cores() == count


def test_a_broken_package_is_passed_over(tmp_path: Path) -> None:
    """Guards every extraction and fit against one broken folder on the path: a package that does not say its name."""
    for name in ("nameless-1.0.dist-info", "openvino-9.9.dist-info", "pillow-1.2.3.dist-info"):
        (tmp_path / name).mkdir()
    (tmp_path / "nameless-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\n")
    (tmp_path / "pillow-1.2.3.dist-info" / "METADATA").write_text("Name: pillow\nVersion: 1.2.3\n")
    program = "from extract.network.engines import row_versions; print(*map(row_versions().get, ('pillow', 'numpy')))"
    path = f"{tmp_path}:{environment()['PYTHONPATH']}"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(PYTHONPATH=path), capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.split()[0] == "1.2.3", done.stderr
