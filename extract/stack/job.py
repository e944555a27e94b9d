"""One stack that is to be made: what is asked for."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from extract.compute.local import Compute
from extract.images.dataset import Listing
from extract.network.engines import row_versions
from extract.recipe import Recipe
from extract.stack.leakage import NEAR


@dataclasses.dataclass(frozen=True)
class Job:
    """One stack that `make_stacks` is to make.

    Attributes:
        stack: the file.
        recipe: what the stack is made from.
        compute: where and how its rows are computed.
        command: the command to record.
        no_leakage: whether train images that are in test too are left out; `near`: near copies too, which are grouped.
        takes_rows: whether a first run takes rows of the same images from other stacks in the same folder.
    """

    stack: Path
    recipe: Recipe
    compute: Compute
    command: str
    no_leakage: bool | str = False
    takes_rows: bool = False

    def with_listing(self, listing: Listing) -> "Job":
        """The same for other images."""
        return dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, listing=listing))

    def as_begun(self, attrs: Mapping[str, Any]) -> "Job":
        """The same with what a file on disk has decided for good."""
        return dataclasses.replace(self, recipe=self.recipe.as_begun(attrs))

    def rows(self, known: Mapping[bytes, int]) -> dict[str, Any]:
        """The fields of a new file that are known before an image is opened; see `Recipe.rows`."""
        rows = self.recipe.rows(known)
        return rows | {"copies": np.full(len(rows["paths"]), -1, "<i4")} if self.no_leakage == NEAR else rows

    def attributes(self) -> dict[str, Any]:
        """Root attributes of a new file that are known before the network is compiled."""
        listing = self.recipe.listing
        attrs = {
            **self.recipe.attrs(),
            **({"seed": self.recipe.seed} if listing.split is None else {}),  # it seeds the split
            "dataset": listing.name,
            "dataset_root": str(listing.root),
            "corrections_sha256": listing.corrections.sha256 if listing.corrections else None,
            "versions": json.dumps(row_versions(self.recipe.is_onnx)),
            "command": self.command,
        }
        return {name: value for name, value in attrs.items() if value is not None}
