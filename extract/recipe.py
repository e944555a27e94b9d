"""What a stack is made from: which images, through which base, and how the base sees them."""

import dataclasses
import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from extract.backbones import Backbone, backbone_named
from extract.images.dataset import Listing
from extract.images.decode import decode, framed, needed_edge, reading, resized_first
from extract.images.split import chosen, seeded_split
from extract.images.views import LEAST_SIDE, view_of
from extract.model_file import QUANTISED, ModelFile, is_model_file
from extract.network.base import weights_identity
from extract.network.network import KerasNetwork, Network
from extract.network.onnx_network import OnnxNetwork
from extract.preprocessing import Values
from features import Refused
from features.compression import MOST_LOST
from features.schema import SPLITS, STORES, UNLABELLED

NOT_FINITE = "its features are not finite (NaN or infinity)"
TOO_LARGE = "its features hold numbers above 65,504, which float16 cannot: --store f32"
TOO_SMALL = "its features are so small that float16 would lose more than a thousandth of them: --store f32"
DECODES = ("full", "scaled", "full-srgb", "scaled-srgb")  # see `Recipe.decode`


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides a stack's rows.

    Attributes:
        listing: the images.
        backbone: the frozen conv base.
        weights: imagenet, random, formula or a file.
        layer: where the base is cut.
        pool: how rows are pooled before they are stored, `avg` or `max`; empty where they are not.
        store: type of the stored rows, a name in `STORES`.
        layers: all layers that are computed in the same pass, this one among them; none where it is alone.
        size: side of the square input, pixels.
        seed: of random weights, of the split where the dataset has none, and of views.
        views: augmented views of each labelled train image, beside the image itself.
        augment: how they are made, a name in `AUGMENTS`.
        precision: of the arithmetic, a name in `PRECISIONS`.
        resize: how an image becomes a square, one of `RESIZES`, or see `framed` and `resized_first`.
        filter: a name in `FILTERS`.
        decode: `scaled-srgb`; `scaled` for stacks that were begun when colour profiles were ignored; `full` for older
            ones, when every JPEG was decoded at its full size; `full-srgb` where no stack is concerned.
        page: of files with several pages or frames, from 1.
        white: the value that is white in deep greys; None where the file says so.
    """

    listing: Listing
    backbone: Backbone | ModelFile
    weights: str
    layer: str
    size: int
    seed: int
    views: int = 0
    augment: str = "photo"
    precision: str = "f32"
    resize: str = "squash"
    filter: str = "bilinear"
    decode: str = "scaled-srgb"
    layers: tuple[str, ...] = ()
    pool: str = ""
    store: str = "f32"
    page: int = 1
    white: float | None = None

    @classmethod
    def recorded(cls, attrs: Mapping[str, Any], listing: Listing, weights: str, layer: str) -> "Recipe":
        """How the rows of a stack with these root attributes were made, for other images or another layer."""
        recipe = cls(
            listing,
            backbone_of(attrs, weights),
            weights,
            layer,
            attrs["input_size"],
            attrs["seed"],
            views=attrs.get("views", 0),
            augment=attrs.get("augment", "photo"),
            precision="f32" if attrs["precision"] == QUANTISED else attrs["precision"],
            resize=attrs["resize"],
            filter=attrs["resize_filter"],
            pool=attrs.get("pool", ""),
            store="f16" if attrs["dtype"] == "float16" else "f32",
            **reading(attrs),
        ).as_begun(attrs)
        if layer == attrs["layer"]:
            return recipe
        return dataclasses.replace(recipe, layers=(), pool="")  # another layer is a pass of its own

    @property
    def file_name(self) -> str:
        """`<dataset>-<backbone>.h5`, with every setting that is not the default in between."""
        parts = [
            self.listing.name,
            self.backbone.name,
            "" if self.weights == self.backbone.weights else Path(self.weights).name.split(".")[0],
            self.layer if self.layer != self.backbone.layer else "",
            f"{self.size}px" if self.size != self.backbone.size else "",
            self.resize if self.resize != self.backbone.resize else "",
            self.filter if self.filter != self.backbone.filter else "",
            f"{self.views}views" if self.views else "",
            self.augment if self.views and self.augment != "photo" else "",
            f"page{self.page}" if self.page > 1 else "",
            f"white{self.white}" if self.white else "",
            self.precision if self.precision != "f32" else "",
            self.pool,
            f"{self.store}rows" if self.store != "f32" else "",
        ]
        return "-".join(part for part in parts if part) + ".h5"

    def attrs(self) -> dict[str, Any]:
        """The root attributes that decide the rows of this recipe; None for attributes that it does not have."""
        return {
            "backbone": self.backbone.name,
            "layer": self.layer,
            "preprocessing": self.backbone.preprocessing,
            "input_size": self.size,
            "resize": self.resize,
            "resize_filter": self.filter,
            "decode": self.decode if self.decode != "full" else None,
            "page": self.page if self.page > 1 else None,
            "white": self.white,
            "dtype": np.dtype(STORES[self.store]).name,
            "pool": self.pool or None,
            "precision": QUANTISED if self.is_quantised else self.precision,
            "tensor_axes": self.backbone.axes or None if isinstance(self.backbone, ModelFile) else None,
            "views": self.views or None,
            "augment": self.augment if self.views else None,
            **self._weights_identity,
            **({"seed": self.seed} if self.views else {}),
        }

    @cached_property
    def _weights_identity(self) -> dict[str, Any]:
        """See `weights_identity`. Kept, since it takes hashing a file of up to a gigabyte."""
        return weights_identity(self.backbone, self.weights, self.seed)

    @property
    def is_onnx(self) -> bool:
        """Whether the network is an ONNX file's, in which Keras has no part."""
        return isinstance(self.backbone, ModelFile) and self.backbone.is_onnx

    @property
    def is_quantised(self) -> bool:
        """Whether the network is a file's that computes with numbers of at most eight bits, whatever the rest is."""
        return isinstance(self.backbone, ModelFile) and self.backbone.is_quantised

    @property
    def network(self) -> Network:
        """The network of its pass; not built yet."""
        layers = self.layers or (self.layer,)
        if isinstance(self.backbone, ModelFile) and self.is_onnx:
            values = Values.of(self.backbone.preprocessing)
            return OnnxNetwork(self.backbone.file, values, self.size, layers, self.pool, self.backbone.axes)
        return KerasNetwork.named(self.backbone, self.weights, self.size, self.seed, layers, self.pool)

    @property
    def output(self) -> int:
        """Which of the network's layers is this recipe's."""
        return self.layers.index(self.layer) if self.layers else 0

    def stored(self, features: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
        """Rows (k, width) float32 rounded as a stack stores them, still float32; index → why one cannot be stored."""
        half = self.store == "f16"
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = features.astype("<f2").astype("<f4") if half else features
        bad = {int(i): NOT_FINITE for i in np.flatnonzero(~np.isfinite(features).all(1))}
        if half:
            length = np.linalg.norm(features, axis=1)
            lost = np.linalg.norm(features - rounded, axis=1) > MOST_LOST * length
            large = np.abs(features).max(axis=1, initial=0) > np.finfo("f2").max
            bad = {int(i): TOO_LARGE if large[i] else TOO_SMALL for i in np.flatnonzero(lost | large)} | bad
        return rounded, bad

    def rows(self, known: Mapping[bytes, int]) -> dict[str, Any]:
        """The fields that are known before an image is opened, (rows,) each; an image's views follow each other.

        Views need the split beforehand, as only train images have any: where the dataset has none, its files are
        hashed for it.

        Args:
            known: SHA-256 → split of images that have one already.
        """
        listing = self.listing
        split = listing.split
        if self.views and split is None:
            read = [listing.source.sha256(path) for path in listing.paths]
            readable = np.array([digest is not None for digest in read])
            sha256 = np.frombuffer(b"".join(digest for digest in read if digest), "u1").reshape(-1, 32)
            split = np.zeros(len(readable), "u1")
            groups = chosen(listing.groups, readable)
            split[readable] = seeded_split(listing.labels[readable], sha256, self.seed, known=known, groups=groups)
        copies = np.ones(len(listing.paths), int)
        if split is not None:
            copies += self.views * ((split == SPLITS["train"]) & (listing.labels != UNLABELLED))
        image = np.repeat(np.arange(len(copies)), copies)
        size, mtime_ns = listing.stats()
        rows = {
            "paths": [listing.paths[i] for i in image],
            "labels": listing.labels[image],
            "view": (np.arange(len(image)) - (np.cumsum(copies) - copies)[image]).astype("i4"),
            "size": size[image],
            "mtime_ns": mtime_ns[image],
        }
        if listing.groups is not None:
            rows["group"] = [listing.groups[i] for i in image]
        return rows if split is None else rows | {"split": split[image]}

    def as_begun(self, attrs: Mapping[str, Any]) -> "Recipe":
        """This recipe with the decoding and the pass that a stack on disk has fixed.

        Raises:
            Refused: this version does not know it.
        """
        decode = str(attrs.get("decode", "full"))
        if decode not in DECODES:
            raise Refused(
                f"its images were decoded by the rules {decode!r}, and this version knows {', '.join(DECODES)}: "
                f"go on with the version that made it"
            )
        layers = tuple(json.loads(attrs.get("layers", "[]")))
        begun = (decode, layers)
        return self if begun == (self.decode, self.layers) else dataclasses.replace(self, decode=decode, layers=layers)

    def open(self, data: bytes) -> Image.Image:
        """Decode an image file, as large as its views need it.

        Raises:
            Unreadable: as `decode` and `framed` of `extract.images.decode`.
        """
        share = LEAST_SIDE[self.augment] if self.views else 1.0
        least = math.ceil(needed_edge(self.size, self.resize) / share)
        is_scaled = self.decode.startswith("scaled") and self.filter != "nearest"  # which takes single pixels
        side = least if is_scaled else None
        return framed(decode(data, side, self.is_managed, self.page, self.white), self.resize)

    @property
    def is_managed(self) -> bool:
        """Whether embedded colour profiles are applied; see `extract.images.decode.decode`."""
        return self.decode.endswith("srgb")

    def pixels(self, image: Image.Image, sha256: np.ndarray, view: int) -> np.ndarray:
        """One view of an opened image, (size, size, 3) uint8 RGB."""
        first = resized_first(image.size, self.resize)
        return view_of(image, self.size, self.augment, self.seed, sha256, view, self.filter, first)


def backbone_of(attrs: Mapping[str, Any], weights: str) -> Backbone | ModelFile:
    """The backbone of a stack with these root attributes, and with its weights where they are now."""
    name = attrs["backbone"]
    return ModelFile.recorded(attrs, Path(weights)) if is_model_file(name) else backbone_named(name)
