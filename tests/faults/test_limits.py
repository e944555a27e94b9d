"""Fault 94: the size of a file is limited, as a quota does it, and the limit is met in the middle."""

from pathlib import Path

import forked
import pytest
from onnx_models import small
from tiny import photos


@pytest.mark.slow
def test_every_command_ends_in_a_line_and_goes_on(tmp_path: Path) -> None:
    """94: exit 1, no traceback, no crash, no half file under a good name; without the limit the same command works."""
    data, network = photos(tmp_path / "photos", classes=2, each=10), small(tmp_path / "m.onnx", ("batch", 3, 64, 64))
    extract = ["extract", data, "--backbone", network, "--preprocess", "none size=64", "--layer", "map"]
    cases = [  # a command, and the limits that it meets
        ([*extract, "--out", "a.h5"], (0, 3000, 100_000)),
        (["features", "compress", "a.h5", "--out", "c.h5"], (3000, 100_000)),
        (["features", "pool", "a.h5", "--out", "p.h5"], (3000,)),
        (["features", "index", "a.h5", "--out", "i.json"], (50,)),
        (["features", "find", "p.h5", "0", "--index"], (500,)),
        (["classify", "fit", "a.h5", "--model", "logreg", "--out", "fitted"], (5000, 30_000)),
        (["classify", "compare", "a.h5", "--models", "knn", "--out", "compared"], (20_000, 100_000)),
        (["classify", "audit", "p.h5", "--out", "audited"], (10_000,)),
        (["classify", "predict", "fitted", data, "--out", "t.csv"], (500,)),
        (["classify", "export", "fitted", "--to", "openvino", "--out", "e.xml"], (5000,)),
    ]
    words = [[["limit", limit, *command] for limit in limits] + [command] for command, limits in cases]
    told = iter(forked.commands(tmp_path, *(each for some in words for each in some)))
    for some in words:
        for limited in some[:-1]:
            code, _, err = next(told)
            assert code == 1 and "Traceback" not in err, (limited, code, err)
            assert "File too large" in err or "limits a file's size" in err, (limited, err)
        code, _, err = next(told)
        assert code == 0, (some[-1], err)
    assert not [left for kind in ("layout", "partial", "lock") for left in tmp_path.rglob(f"*.{kind}")]
