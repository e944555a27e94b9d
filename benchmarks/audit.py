"""The audit: labels that were flipped, copies that were planted, and how long it takes.

    python -m benchmarks.audit PHOTOS WEIGHTS

5 % of the train labels of the photos (MobileNetV2) and of the digits (scattering) are flipped at seeded random, by a
file of corrections. Copies of 600 photos are planted: compressed at quality 40, mirrored, or cropped by 5 %. Pairs of
images of the dataset that are copies in truth count as wrong. cleanlab ranks by the same probabilities.
"""

import os
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks.results import row
from classify import audit
from classify.auditing.findings import Audit, audit_images
from extract import extract
from features import open_stack

SEEDS, SHARE, COPIES = 3, 0.05, 600
KINDS = ("compressed", "mirrored", "cropped")


def flipped(data: str, how: dict[str, object], folder: Path, seed: int) -> tuple[Audit, set[str]]:
    """The audit of a stack after a share of its train labels was flipped, and the paths of those."""
    place = folder / "flipped.h5"
    before = open_stack(extract(data, **how, out=str(folder / "right.h5")))  # type: ignore[arg-type]
    train = np.flatnonzero(before.split != 2)
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(train)[: int(SHARE * len(train))]
    other = (before.y[wrong] + rng.integers(1, len(before.label_names), len(wrong))) % len(before.label_names)
    lines = [f"{before.paths[i]},{before.label_names[label]}" for i, label in zip(wrong, other, strict=True)]
    (folder / "flips.csv").write_text("\n".join(["path,label", *lines]), "utf-8")
    if not place.exists():
        os.link(folder / "right.h5", place)
    made = extract(data, **how, corrections=str(folder / "flips.csv"), out=str(place))  # type: ignore[arg-type]
    return audit_images(open_stack(made), None), {before.paths[i] for i in wrong}


def labels(name: str, data: str, how: dict[str, object], folder: Path, wanted: str) -> None:
    """A row on flipped labels."""
    from cleanlab.rank import get_label_quality_scores

    shares: dict[str, list[float]] = {}
    for seed in range(SEEDS):
        found, wrong = flipped(data, how, folder, seed)
        paths = np.array(found.images.paths)[found.judged.rows]
        ranks = {"": found.issues.order}
        for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
            scores = get_label_quality_scores(found.judged.y, found.judged.proba, method=method)
            ranks[method] = np.argsort(scores, kind="stable")
        for method, order in ranks.items():
            first = paths[order[: len(wrong)]]
            shares.setdefault(method, []).append(float(np.isin(first, list(wrong)).mean()))
    means = {method: f"{np.mean(each):.1%}" for method, each in shares.items()}
    own = means.pop("")
    theirs = ", ".join(f"{method} {mean}" for method, mean in means.items())
    what = f"5 % of the train labels of {name} flipped: share of them among as many first of the ranking, {SEEDS} seeds"
    row(what, f"{own} (cleanlab on the same probabilities: {theirs})", wanted)


def copies(photos: str, weights: str, folder: Path) -> None:
    """A row on planted copies."""
    whole = open_stack(folder / "right.h5")
    root, planted = Path(photos), folder / "planted"
    names = dict(zip(whole.paths, (whole.label_names[label] for label in whole.y), strict=True))
    for path, name in names.items():
        (planted / name).mkdir(parents=True, exist_ok=True)
        (planted / name / Path(path).name).symlink_to((root / path).resolve())
    random.seed(0)
    for i, path in enumerate(random.sample(sorted(names), COPIES)):
        kind, image = KINDS[i % len(KINDS)], Image.open(root / path).convert("RGB")
        width, height = image.size
        if kind == "mirrored":
            image = ImageOps.mirror(image)
        if kind == "cropped":
            image = image.crop((width // 40, height // 40, width - width // 40, height - height // 40))
        quality = 40 if kind == "compressed" else 90
        image.save(planted / names[path] / f"{Path(path).stem}-{kind}.jpg", quality=quality)
    stack = extract(str(planted), "mobilenetv2", weights=weights, out=str(folder / "planted.h5"))
    found = audit_images(open_stack(stack), None)
    stems = np.array([Path(path).stem.split("-")[0] for path in found.images.paths])
    pairs = np.argwhere(found.near.cosines >= found.threshold)
    ends = {tuple(sorted((int(i), int(found.near.rows[i, at])))) for i, at in pairs}
    right = sum(stems[a] == stems[b] for a, b in ends)
    row(
        f"{COPIES} planted copies among {len(whole):,} photos, compressed, mirrored or cropped: found",
        f"{right / COPIES:.1%} at a precision of {right / len(ends):.1%}, from cosine {found.threshold:.3f} on",
        "precision 95%",
    )


def main(photos: str, weights: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        how: dict[str, object] = {"backbone": "mobilenetv2", "weights": weights}
        stack = extract(photos, **how, out=str(folder / "right.h5"))  # type: ignore[arg-type]
        began = time.perf_counter()
        audit(str(stack), out=str(folder / "audit"))
        row(f"`audit` of {len(open_stack(stack)):,} photos, page and all", f"{time.perf_counter() - began:.0f} s")
        labels("the photos", photos, how, folder, "")
        copies(photos, weights, folder)
        (folder / "digits").mkdir()
        labels("the digits", "digits", {"backbone": "scattering", "size": 32}, folder / "digits", "75%")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
