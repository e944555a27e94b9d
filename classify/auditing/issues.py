"""Labels that look wrong, and classes that overlap: confident learning (Northcutt et al., JAIR 2021)."""

from typing import NamedTuple

import numpy as np


class LabelIssues(NamedTuple):
    """Images by how little a model that had not seen them believes in their labels.

    Attributes:
        order: (m,) indices, the least believed first.
        confidence: (m,) probability of each image's own label, self-confidence.
        suggested: (m,) int64 the likeliest class.
        sure: (m,) bool, whether another class is believed in as much as images of that class are on average.
        joint: (classes, classes) float64: estimated number of images by given label and by what they show.
    """

    order: np.ndarray
    confidence: np.ndarray
    suggested: np.ndarray
    sure: np.ndarray
    joint: np.ndarray


def label_issues(y: np.ndarray, proba: np.ndarray) -> LabelIssues:
    """Rank labels.

    Args:
        y: (m,) int64 class indices.
        proba: (m, classes) float64, by models that had not seen the images.
    """
    n, classes = proba.shape
    confidence = proba[np.arange(n), y]
    counts = np.bincount(y, minlength=classes)
    usual = np.bincount(y, confidence, minlength=classes) / np.maximum(counts, 1)  # mean belief in a class's own
    usual[counts == 0] = np.inf
    likely = np.where(proba >= usual - 1e-6, proba, -1.0)
    shows = np.where(likely.max(axis=1) >= 0, likely.argmax(axis=1), -1)
    counted = np.zeros((classes, classes))
    np.add.at(counted, (y[shows >= 0], shows[shows >= 0]), 1)
    np.fill_diagonal(counted, np.maximum(counted.diagonal(), 1))  # each class shows some of its own
    joint = counted / counted.sum(axis=1, keepdims=True) * counts[:, None]
    suggested = proba.argmax(axis=1)
    sure = (shows >= 0) & (shows != y) & (suggested != y)
    return LabelIssues(np.argsort(confidence, kind="stable"), confidence, suggested, sure, joint)


def overlaps(joint: np.ndarray, most: int = 10) -> list[tuple[int, int, float]]:
    """Pairs of classes that are taken for each other, and the share of both's images: the largest first."""
    counts = joint.sum(axis=1)
    both = counts[:, None] + counts
    shares = np.triu((joint + joint.T) / np.where(both == 0, 1, both), 1)
    pairs = np.argsort(-shares, axis=None, kind="stable")[:most]
    found = [(*divmod(pair, len(counts)), float(shares.flat[pair])) for pair in pairs.tolist()]
    return [(a, b, share) for a, b, share in found if share > 0]
