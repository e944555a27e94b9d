"""benchmarks/gpu.py, on a CPU at a tiny size: what it measures there means nothing, and its checks hold."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import environment

from benchmarks.gpu_kit import copy_code

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


def test_every_part_runs_and_a_killed_run_gives_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the script that runs where nobody can mend it: each measurement, the table, and the rows of a resume."""
    pytest.importorskip("jax")
    monkeypatch.chdir(ROOT)
    copy_code(tmp_path)
    (tmp_path / "tensorflow.py").write_text("raise ImportError('as on the machine that this is for')")
    results = tmp_path / "benchmarks/RESULTS.md"
    before = results.read_text()
    words = ["-m", "benchmarks.gpu", "--only", "jax/mobilenetv2", "jax/nothing", "--device", "cpu"]
    words += ["--size", "32", "--images", "64"]
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    cache = {"JAX_COMPILATION_CACHE_DIR": f"{tmp_path}/jax", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    env = environment(PYTHONPATH=path, **cache)  # a test need not compile one network five times
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line for line in results.read_text().splitlines() if "| `gpu`, " in line]
    parts = ["bf16", "f16", "f32", "GPU memory", "rows against", "bf16", "bf16", "bf16"]
    assert len(rows) == len(parts) + 1
    for row, part in zip(rows, parts, strict=False):
        assert row.startswith(f"| mobilenetv2 on jax: {part}")
    checked, killed, unknown = (row.split("|")[-4] for row in (rows[4], rows[7], rows[8]))
    assert float(checked.split(",")[0]) <= 2e-3 >= float(checked.split(";")[1])  # f32 against itself
    assert "64 of 64" in killed and unknown.strip() == "failed"
    kept = [line for line in results.read_text().splitlines() if "beside it |" in line and line not in rows]
    assert sorted(kept) == sorted(line for line in before.splitlines() if "beside it |" in line)
