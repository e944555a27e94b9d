"""What a feature set costs, and what is published of its network."""

from typing import Any

import numpy as np

from classify.across.feature_set import FeatureSet
from extract.backbones import BACKBONES


def cost(features: FeatureSet, rows: int) -> dict[str, Any]:
    """Extraction as it was measured, the size of a row, and the published figures of the pre-trained network.

    ImageNet accuracy is that of the published weights, and is left out for all others.

    Args:
        features: the rows.
        rows: how many the whole file has.
    """
    stack = features.stack
    seconds = stack.extract_seconds
    shape = stack.feature_shape if features.pool in (None, "flatten") else stack.feature_shape[-1:]
    backbone = BACKBONES.get(stack.attrs["backbone"])
    published = backbone is not None and stack.attrs.get("weights") == "imagenet"
    return {
        "backbone": stack.attrs["backbone"],
        "layer": stack.attrs.get("layer"),
        "width": int(np.prod(shape)),
        "row_bytes": int(np.prod(shape)) * np.dtype(stack.attrs["dtype"]).itemsize,
        "extract_seconds": seconds,
        "images_per_second": rows / seconds if seconds else None,
        "seconds_per_1000": 1000 * seconds / rows if seconds else None,
        "parameters": backbone.parameters or None if backbone else None,
        "imagenet_top1": backbone.top1 if backbone and published else None,
        "leave_one_out": None,
    }
