"""The page of evidence maps, from photos to pixels of colour."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import photos, run

from classify import compare, explain, fit
from classify.explaining.overlay import AGAINST, FOR, as_seen, drawn
from extract import extract
from features import Refused


def test_a_map_is_drawn() -> None:
    """Guards the picture: a pixel a place, its colour the sign, its opacity the share of the strongest."""
    data = drawn(np.array([[2.0, -1.0, 0.0]]), 2.0).split(",")[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert pixels.shape == (1, 3, 4)
    assert tuple(pixels[0, 0, :3]) == FOR and tuple(pixels[0, 1, :3]) == AGAINST
    assert pixels[0, :, 3].tolist() == [191, 96, 0]


@pytest.mark.parametrize(
    ("resize", "size"),
    [
        *(("squash", (100, 60)), ("crop", (60, 60)), ("crop0.5", (30, 30)), ("pad", (100, 100))),
        *(("edge20", (30, 30)), ("squash20", (50, 30))),
    ],
)
def test_what_the_backbone_saw(resize: str, size: tuple[int, int]) -> None:
    """Guards that a map lies over the part of the photo that it speaks of: a marked corner stays or goes with it."""
    photo = Image.new("RGB", (100, 60))
    photo.putpixel((99, 59), (255, 255, 255))
    seen = as_seen(photo, {"resize": resize, "input_size": 10}, side=max(size))
    assert seen.size == size
    assert (np.asarray(seen).max() > 0) == (resize in ("squash", "pad"))


@pytest.mark.slow
def test_explain_and_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the command, what it refuses, and the maps and neighbours in the report."""
    monkeypatch.chdir(tmp_path)
    root = photos(tmp_path / "photos", classes=2, each=12)
    stack = extract(str(root), backbone="scattering", size=32)
    model = fit(str(stack), "logreg")
    (tmp_path / "torn.jpg").write_bytes((root / "class0" / "1.jpg").read_bytes()[:300])
    done = run("classify", "explain", model, "photos/class0/0.png", "torn.jpg", "--out", "e.html", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "e.html\n") and "rejected torn.jpg" in done.stderr
    page = (tmp_path / "e.html").read_text()
    assert page.count('class="evidence"') == 2 and "all places and a constant add up" in page
    assert explain(str(model), ["photos/class0"], classes=1).read_text().count('class="evidence"') == 12
    knn = fit(str(stack), "knn")
    for given, told in (
        ({"model": str(knn), "photos": ["photos"]}, "has no evidence maps: nearest neighbours, cosine has no maps"),
        ({"model": str(model), "photos": ["nowhere"]}, "no photo or folder at nowhere"),
        ({"model": str(model), "photos": ["photos"], "out": "photos"}, "--out photos is a folder"),
        ({"model": str(model), "photos": ["photos"], "classes": 0}, "--classes 0: give a number from 1 up"),
    ):
        with pytest.raises(Refused, match=told):
            explain(**given)  # type: ignore[arg-type]
    report = compare(str(stack), ["logreg", "knn"]).read_text()
    assert report.count('width="160"') > 0  # of noise no model is right throughout
    assert "with the evidence of <code>logreg</code>" in report and 'class="evidence"' in report
    assert report.count('class="like"') == report.count('width="160"')
