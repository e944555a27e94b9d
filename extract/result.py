"""What `extract` returns: the stack's path, and the images of each class."""

from typing import Any

from features import open_stack
from features.runtime.result import Result
from features.schema import SPLITS, UNLABELLED


class Made(Result):
    """A finished stack's path."""

    def table(self) -> list[dict[str, Any]]:
        """A row for each class: `label`, and its images in each part of the split."""
        if not self.is_file():
            return []
        stack = open_stack(self)
        images = stack.take(stack.view == 0)
        sides = {side: images.split == code for side, code in SPLITS.items()}
        named = [*enumerate(images.label_names), *([(UNLABELLED, "")] if (images.y == UNLABELLED).any() else [])]
        return [
            {"label": name, **{side: int((here & (images.y == label)).sum()) for side, here in sides.items()}}
            for label, name in named
        ]
