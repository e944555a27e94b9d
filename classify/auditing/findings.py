"""All that is found about a stack's images: one row for each finding, the worst of each kind first."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from classify.auditing.finding import CHECKED, KINDS, Finding
from classify.auditing.issues import LabelIssues, label_issues, overlaps
from classify.auditing.out_of_fold import OutOfFold, out_of_fold
from classify.auditing.pixels import Pixels, measure
from extract.images.decode import reading
from features import Stack
from features.nearest import Nearest, copy_groups, copy_threshold, nearest_of_all, unit_pieces
from features.runtime.log import log
from features.schema import SPLITS, UNLABELLED
from features.source import Source

NEIGHBOURS = 10  # whose mean cosine says how alone an image is
ALONE = 4.0  # robust standard deviations of the log distance above the middle, from which an image is an outlier


class Audit(NamedTuple):
    """What was found about the labelled images of a stack.

    Attributes:
        images: (n,) labelled images, no views.
        judged: what models say of images that they had not seen.
        issues: of those, in their order.
        near: (n, 10) the nearest other images.
        copies: groups of near copies.
        threshold: the cosine from which two images are near copies.
        outliers: images unlike all others, the most alone first.
        pixels: None where the photos are not there.
        checked: paths whose labels somebody has looked at and found right.
    """

    images: Stack
    judged: OutOfFold
    issues: LabelIssues
    near: Nearest
    copies: list[np.ndarray]
    threshold: float
    outliers: np.ndarray
    pixels: Pixels | None
    checked: frozenset[str]

    def findings(self) -> Iterator[Finding]:
        """Of every kind, the worst first."""
        images, issues = self.images, self.issues
        for i in issues.order.tolist():
            row = int(self.judged.rows[i])
            if issues.suggested[i] != images.y[row] and images.paths[row] not in self.checked:
                name = images.label_names[issues.suggested[i]]
                yield Finding("label", row, float(issues.confidence[i]), name, sure=bool(issues.sure[i]))
        for group, members in enumerate(self.copies):
            for row in members.tolist():
                yield Finding("copy", row, float(self.near.cosines[row, 0]), group=group)
        alone = self.near.cosines.mean(axis=1)
        yield from (Finding("outlier", row, float(alone[row])) for row in self.outliers.tolist())
        if self.pixels:
            empty, blurred = self.pixels.findings()
            yield from (Finding("empty", row, float(self.pixels.dark[row])) for row in empty.tolist())
            yield from (Finding("blurred", row, float(self.pixels.sharpness[row])) for row in blurred.tolist())

    def across(self, members: np.ndarray) -> bool:
        """Whether copies are on both sides of the split: in test, and not only there."""
        return len(np.unique(self.images.split[members] == SPLITS["test"])) > 1

    def overlaps(self) -> list[tuple[str, str, float]]:
        """Pairs of classes that are taken for each other, and the share of both's images."""
        names = self.images.label_names
        return [(names[a], names[b], share) for a, b, share in overlaps(self.issues.joint)]

    def summary(self) -> dict[str, Any]:
        """Counts, as JSON can hold them."""
        found = list(self.findings())
        counts = {kind: sum(each.kind == kind for each in found) for kind in KINDS}
        return {
            "images": len(self.images),
            "classes": len(self.images.label_names),
            "judged": len(self.judged.rows),
            "right": float((self.issues.suggested == self.judged.y).mean()),
            **counts,
            "sure": sum(each.sure for each in found),
            "groups": len(self.copies),
            "across": sum(map(self.across, self.copies)),
            "threshold": self.threshold,
            "unread": None if self.pixels is None else len(self.pixels.unread),
            "checked": len(self.checked),
            "overlaps": [{"classes": [a, b], "share": share} for a, b, share in self.overlaps()],
        }


def audit_images(stack: Stack, source: Source | None) -> Audit:
    """Look at every labelled image of a stack, test images too.

    Args:
        stack: all of its rows.
        source: where the photos are; None where they are not there, so that no pixel is looked at.

    Raises:
        Refused: fewer than two classes have images enough.
    """
    images = stack.take((stack.y != UNLABELLED) & (stack.view == 0))
    units = np.concatenate(list(unit_pieces(images, "avg")))
    near = nearest_of_all(units, NEIGHBOURS)
    threshold = copy_threshold(near.cosines[:, 0])
    copies = copy_groups(near, threshold)
    log.info(f"{len(images):,} images compared with each other; near copies from cosine {threshold:.3f} on")
    judged = out_of_fold(images, units, copies)
    if alone := len(images) - len(judged.rows):
        log.info(f"{alone} images were not judged: their class has no other image")
    checked = {each.path for each in stack.corrections if each.reason == CHECKED}
    return Audit(
        images,
        judged,
        label_issues(judged.y, judged.proba),
        near,
        copies,
        threshold,
        _outliers(near.cosines),
        measure(source, images.paths, images.field("sha256"), reading(images.attrs)) if source else None,
        frozenset(checked),
    )


def _outliers(cosines: np.ndarray) -> np.ndarray:
    """Images whose nearest (n, k) are unusually far, the farthest first."""
    distances = np.log(np.maximum(1 - cosines.mean(axis=1, dtype=np.float64), 1e-7))
    near, middle = np.quantile(distances, [0.1587, 0.5])
    far = np.flatnonzero(distances > middle + ALONE * (middle - near))
    return np.asarray(far[np.argsort(-distances[far])])
