"""What each axis of a tensor counts, followed from the image through the operators of an ONNX graph.

Each axis carries a set of labels. An operator hands them on by its own definition: a convolution's channels are its
axis 1, a product with weights makes channels of the axis that it sums over, a transposition moves labels, a reshape
joins or divides them where the products of sides meet. Sizes alone decide nothing. Where an operator is not known, its
result has no labels, and whoever asks is told that it is not known.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from extract.network.onnx_graph import depending, import_onnx

Labels = tuple[frozenset[str], ...]  # one set for each axis
NONE: frozenset[str] = frozenset()
CHANNEL, POSITION = frozenset("c"), frozenset("s")

CONVOLUTIONS = frozenset(("Conv", "ConvTranspose", "FusedConv", "QLinearConv", "ConvInteger", "DeformConv"))
PRODUCTS = frozenset(("MatMul", "FusedMatMul", "MatMulInteger", "QLinearMatMul"))
LINEAR = frozenset(("MatMulNBits", "MatMulBnb4", "MatMulFpQ4", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"))
ALONG_LAST = frozenset(("LayerNormalization", "SkipLayerNormalization", "RMSNormalization", "Attention"))
ALONG_FIRST = frozenset(("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN"))
# Axes stay what they are: one number at a time, by NumPy's rules of broadcasting, or along an axis that stays.
_KEEPS = """
Abs Acos Add And Asin Atan AveragePool BiasGelu BitShift Cast CastLike Ceil Celu Clip Concat Cos CumSum
DequantizeLinear DepthToSpace Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand FastGelu Floor Gelu
GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Hardmax Identity IsNaN
LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool Max MaxPool Mean MeanVarianceNormalization Min
Mish Mod Mul Neg Not Or PRelu Pad Pow QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool
QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax QuantizeLinear QuickGelu Reciprocal Relu Resize Round
Selu Shrink Sigmoid Sign Sin Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Sub Sum Swish Tanh
ThresholdedRelu Tile Upsample Where Xor
"""
KEEPS = frozenset(_KEEPS.split())


class Weighed(Exception):
    """The first operator that multiplies the image by weights; the search for its channels ends there.

    Attributes:
        labels: of its input.
        axis: that it sums over.
        fits: whether a convolution takes as many channels as its input has; True where either is not known.
    """

    def __init__(self, labels: Labels, axis: int, fits: bool) -> None:
        super().__init__()
        self.labels, self.axis, self.fits = labels, axis, fits


class _Axes:
    """A walk through a graph with types and shapes (`onnx_graph.with_shapes`).

    Args:
        model: the graph.
        image: name of the input.
        labels: of its axes.
        stops: whether to raise `Weighed` at the first weights.
    """

    def __init__(self, model: Any, image: str, labels: Labels, stops: bool = False) -> None:
        self.graph, self.stops = model.graph, stops
        self.of: dict[str, Labels] = {image: labels}
        self.shapes = shapes_of(model)
        self._read = import_onnx().numpy_helper.to_array
        self._constants = {each.name: each for each in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant":
                self._constants[node.output[0]] = _attribute(node, "value", None)

    def walk(self) -> None:
        """Follow the labels to all tensors that the image has a part in."""
        within = depending(self.graph, self.of, through_shapes=False)
        for node in self.graph.node:
            if within.isdisjoint(node.output):
                continue
            given = [self.of.get(name, ()) for name in node.input]
            try:
                made = self._rule(node.op_type)(node, given)
            except (ArithmeticError, LookupError, TypeError, ValueError):  # a node that does not keep to its definition
                made = ()
            for name in node.output:
                rank = len(self.shapes.get(name, made))
                self.of[name] = made if len(made) == rank else (NONE,) * rank

    def _rule(self, kind: str) -> Callable[[Any, list[Labels]], Labels]:
        for kinds, rule in (
            (KEEPS, self._kept),
            (CONVOLUTIONS, self._convolution),
            (PRODUCTS, self._product),
            (LINEAR, self._linear),
            (ALONG_LAST, lambda node, given: self._channels(self._kept(node, given), -1)),
            (ALONG_FIRST, lambda node, given: self._channels(self._kept(node, given), 1)),
        ):
            if kind in kinds:
                return rule
        named: dict[str, Any] = {
            **{"Gemm": self._gemm, "Einsum": self._einsum, "Transpose": self._transpose, "Reshape": self._reshape},
            **{"Flatten": self._flatten, "Gather": self._gather, "Squeeze": self._squeeze},
            "Unsqueeze": self._unsqueeze,
        }
        return named.get(kind, self._reduced if kind.startswith("Reduce") else lambda node, given: ())

    def _kept(self, node: Any, given: list[Labels]) -> Labels:
        """Aligned at their last axes, as NumPy broadcasts."""
        rank = max(len(self.shapes.get(name, each)) for name, each in zip(node.input, given, strict=True))
        made = [NONE] * rank
        for labels in given:
            for i, each in enumerate(labels, rank - len(labels)):
                made[i] |= each
        return tuple(made)

    def _convolution(self, node: Any, given: list[Labels]) -> Labels:
        x = given[0]
        weights = self.shapes.get(node.input[3 if node.op_type == "QLinearConv" else 1], (0, 0))
        there = self.shapes.get(node.input[0], (0, 0))[1]
        takes = weights[0] if node.op_type == "ConvTranspose" else weights[1] * _attribute(node, "group", 1)
        self._weigh(x, 1, takes == there or not takes or not there)
        return (x[0], CHANNEL, *(each or POSITION for each in x[2:]))

    def _product(self, node: Any, given: list[Labels]) -> Labels:
        x, y = given[0], given[3 if node.op_type == "QLinearMatMul" else 1]
        if x and y:
            rank = max(len(x), len(y))
            outer = [NONE] * (rank - 2)
            for each in (x, y):
                for i, labels in enumerate(each[:-2], rank - len(each)):
                    outer[i] |= labels
            return (*outer, x[-2], y[-1])
        if x:
            return self._linear(node, given)
        self._weigh(y, len(y) - 2)
        return (*y[:-2], _summed(y[-2]), y[-1])

    def _linear(self, node: Any, given: list[Labels]) -> Labels:
        x = given[0]
        self._weigh(x, len(x) - 1)
        return (*x[:-1], _summed(x[-1]))

    def _gemm(self, node: Any, given: list[Labels]) -> Labels:
        x = given[0][::-1] if _attribute(node, "transA", 0) else given[0]
        self._weigh(x, 1)
        return (x[0], CHANNEL)

    def _einsum(self, node: Any, given: list[Labels]) -> Labels:
        terms, result = _attribute(node, "equation", b"").decode().replace(" ", "").split("->")
        named: dict[str, frozenset[str]] = {}
        for term, labels in zip(terms.split(","), given, strict=True):
            for letter, each in zip(term, labels, strict=False):
                named[letter] = named.get(letter, NONE) | each
        if len(given) == 2 and not all(given):
            held = terms.split(",")[0 if given[0] else 1]
            summed = [letter for letter in held if letter not in result]
            self._weigh(given[0] or given[1], held.index(summed[0]))
        return tuple(named.get(letter, CHANNEL) for letter in result)

    def _transpose(self, node: Any, given: list[Labels]) -> Labels:
        x = given[0]
        return tuple(x[i] for i in _attribute(node, "perm", range(len(x))[::-1]))

    def _reshape(self, node: Any, given: list[Labels]) -> Labels:
        before, after = self.shapes[node.input[0]], self.shapes[node.output[0]]
        return reshaped(given[0], before, after)

    def _flatten(self, node: Any, given: list[Labels]) -> Labels:
        axis = _attribute(node, "axis", 1)
        return tuple(NONE.union(*part) for part in (given[0][:axis], given[0][axis:]))

    def _gather(self, node: Any, given: list[Labels]) -> Labels:
        x = given[0]
        axis = _attribute(node, "axis", 0) % len(x)
        return (*x[:axis], *(x[axis],) * len(self.shapes[node.input[1]]), *x[axis + 1 :])

    def _squeeze(self, node: Any, given: list[Labels]) -> Labels:
        x, sides = given[0], self.shapes[node.input[0]]
        gone = self._listed(node) or [i for i, side in enumerate(sides) if side == 1]
        return tuple(each for i, each in enumerate(x) if i not in {axis % len(x) for axis in gone})

    def _unsqueeze(self, node: Any, given: list[Labels]) -> Labels:
        x = list(given[0])
        axes = self._listed(node)
        for axis in sorted(axis % (len(x) + len(axes)) for axis in axes):
            x.insert(axis, NONE)
        return tuple(x)

    def _reduced(self, node: Any, given: list[Labels]) -> Labels:
        x = given[0]
        if _attribute(node, "keepdims", 1):
            return x
        gone = {axis % len(x) for axis in self._listed(node) or range(len(x))}
        return tuple(each for i, each in enumerate(x) if i not in gone)

    def _listed(self, node: Any) -> list[int]:
        """`axes`, which older operators have as an attribute and newer ones as an input; empty for none."""
        if axes := _attribute(node, "axes", ()):
            return list(axes)
        if len(node.input) > 1 and node.input[1]:
            return [int(axis) for axis in self._read(self._constants[node.input[1]]).ravel()]
        return []

    def _channels(self, labels: Labels, axis: int) -> Labels:
        """Normalised along this axis: channels, unless something else is known of it."""
        made = list(labels)
        made[axis] = made[axis] or CHANNEL
        return tuple(made)

    def _weigh(self, labels: Labels, axis: int, fits: bool = True) -> None:
        if self.stops and labels:
            raise Weighed(labels, axis, fits)


def channels_of_image(model: Any, image: str) -> tuple[int | None, bool]:
    """The axis of the image's channels, as the first weights say, None where they do not; and whether they fit it.

    The channels are the axis that the weights sum over in whole: of the others, positions are left.

    Args:
        model: with types and shapes; those of the image decide whether the weights fit.
        image: the input, of four axes.
    """
    walk = _Axes(model, image, tuple(frozenset(str(axis)) for axis in range(4)), stops=True)
    try:
        walk.walk()
    except Weighed as weighed:
        left = NONE.union(*(each for i, each in enumerate(weighed.labels) if i != weighed.axis))
        axes = [axis for axis in (1, 2, 3) if str(axis) not in left]
        return (axes[0] if len(axes) == 1 else None), weighed.fits
    return None, True


def channel_axes(model: Any, image: str, channels: int) -> dict[str, int | None]:
    """Each tensor that the image has a part in → the axis of its channels; None where it is not known.

    Args:
        model: with types and shapes.
        image: the input.
        channels: its axis of channels.
    """
    labels = tuple(frozenset("n") if axis == 0 else CHANNEL if axis == channels else POSITION for axis in range(4))
    walk = _Axes(model, image, labels)
    walk.walk()
    found: dict[str, int | None] = {}
    for name, each in walk.of.items():
        axes = [axis for axis, axis_labels in enumerate(each) if axis_labels == CHANNEL]
        found[name] = axes[0] if len(axes) == 1 else None
    return found


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    """Tensor → its sides, 0 where one is not known; of tensors with a known rank."""
    graph, shapes = model.graph, {}
    for each in (*graph.input, *graph.value_info, *graph.output):
        if each.type.tensor_type.HasField("shape"):
            shapes[each.name] = tuple(max(0, dim.dim_value) for dim in each.type.tensor_type.shape.dim)
    return shapes | {each.name: tuple(each.dims) for each in graph.initializer}


def reshaped(labels: Labels, before: Sequence[int], after: Sequence[int]) -> Labels:
    """Labels after a reshape: rows stay in order, so axes correspond where the products of sides meet.

    Args:
        labels: before it.
        before, after: the sides, 0 where one is not known.
    """
    made = [NONE] * len(after)
    for old, new in _groups(before, after):
        joined = NONE.union(*(labels[i] for i in old))
        several = any(after[j] != 1 for j in new)
        for j in new:
            made[j] = joined if not several or after[j] != 1 else NONE
    return tuple(made)


def _groups(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[range, range]]:
    """Axes that correspond, from left to right; around sides that are not known, equal ones from both ends."""
    if 0 in before or 0 in after:
        start = 0
        while start < min(len(before), len(after)) and before[start] == after[start] != 0:
            yield range(start, start + 1), range(start, start + 1)
            start += 1
        end = 0
        while end < min(len(before), len(after)) - start and before[-1 - end] == after[-1 - end] != 0:
            end += 1
            yield range(len(before) - end, len(before) - end + 1), range(len(after) - end, len(after) - end + 1)
        yield range(start, len(before) - end), range(start, len(after) - end)
        return
    olds, news = ([1, *accumulate(sides, lambda a, b: a * b)] for sides in (before, after))
    i = j = 0
    while i < len(before) and j < len(after):
        k, m = i + 1, j + 1
        while olds[k] != news[m]:
            k, m = (k + 1, m) if olds[k] < news[m] else (k, m + 1)
        yield range(i, k), range(j, m)
        i, j = k, m


def _summed(labels: frozenset[str]) -> frozenset[str]:
    """Of an axis that weights have summed over: mixed positions are positions still, anything else is channels."""
    return labels if labels == POSITION else CHANNEL


def _attribute(node: Any, name: str, otherwise: Any) -> Any:
    held = [each for each in node.attribute if each.name == name]
    return import_onnx().helper.get_attribute_value(held[0]) if held else otherwise
