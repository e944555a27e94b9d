"""Every frozen conv base there is, one row each. A new backbone is a new row."""

import dataclasses

from extract.network.scattering import scales_at
from features import Refused
from features.runtime.errors import nearest


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A member of Keras Applications, or the one of our own that needs no weights.

    Attributes:
        keras_name: its constructor in `keras.applications`.
        module: its module there, the one with its own `preprocess_input`; for our own, in this package.
        preprocessing: what is done to RGB 0–255: `caffe` (BGR, ImageNet mean subtracted), `tf` (x / 127.5 − 1),
            `torch` (x / 255, ImageNet mean and deviation), `unit` (x / 255) or `none` (the base scales by itself).
        size: side of its native square input, pixels.
        layer: its last layer without the classification top.
        positions, channels: that layer's output at that size is (positions, positions, channels).
        weights_file: the name under which Keras caches its ImageNet weights; empty where a formula gives all filters.
        megabytes, top1, top5, parameters, depth: as published for the whole network with its top (keras.io, and
            Howard et al. 2019 for MobileNetV3): MB, % on ImageNet, %, millions, layers; None where unpublished.
        trained: how many of its last layers fine-tuning trains, as in the sources; None leaves it to `default_layers`.
    """

    keras_name: str
    module: str
    preprocessing: str
    size: int
    layer: str
    positions: int
    channels: int
    weights_file: str
    megabytes: float | None
    top1: float | None
    top5: float | None
    parameters: float
    depth: int | None
    trained: int | None = None

    resize = "squash"  # how an image becomes its input, and by which filter, unless told otherwise
    filter = "bilinear"

    @property
    def name(self) -> str:
        return self.keras_name.lower()

    @property
    def weights(self) -> str:
        """The weights it has unless others are asked for: `imagenet` or `formula`."""
        return "imagenet" if self.weights_file else "formula"

    def layer_at(self, size: int) -> str:
        """Its layer unless another is asked for: the last one; of the formula, the deepest scale that fits the size."""
        if self.weights_file:
            return self.layer
        deepest = int(self.layer.removeprefix("scale"))
        return f"scale{max(1, min(deepest, scales_at(size)))}"


# fmt: off
_ROWS = [
    Backbone("Scattering", "scattering", "unit", 64, "scale4", 4, 1251, "", None, None, None, 0, None),
    Backbone("VGG16", "vgg16", "caffe", 224, "block5_pool", 7, 512, "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", 528, 71.3, 90.1, 138.4, 16, trained=2),
    Backbone("VGG19", "vgg19", "caffe", 224, "block5_pool", 7, 512, "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5", 549, 71.3, 90.0, 143.7, 19, trained=2),
    Backbone("Xception", "xception", "tf", 299, "block14_sepconv2_act", 10, 2048, "xception_weights_tf_dim_ordering_tf_kernels_notop.h5", 88, 79.0, 94.5, 22.9, 81),
    Backbone("ResNet50", "resnet", "caffe", 224, "conv5_block3_out", 7, 2048, "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", 98, 74.9, 92.1, 25.6, 107),
    Backbone("ResNet101", "resnet", "caffe", 224, "conv5_block3_out", 7, 2048, "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5", 171, 76.4, 92.8, 44.7, 209),
    Backbone("ResNet152", "resnet", "caffe", 224, "conv5_block3_out", 7, 2048, "resnet152_weights_tf_dim_ordering_tf_kernels_notop.h5", 232, 76.6, 93.1, 60.4, 311),
    Backbone("ResNet50V2", "resnet_v2", "tf", 224, "post_relu", 7, 2048, "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5", 98, 76.0, 93.0, 25.6, 103),
    Backbone("ResNet101V2", "resnet_v2", "tf", 224, "post_relu", 7, 2048, "resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5", 171, 77.2, 93.8, 44.7, 205),
    Backbone("ResNet152V2", "resnet_v2", "tf", 224, "post_relu", 7, 2048, "resnet152v2_weights_tf_dim_ordering_tf_kernels_notop.h5", 232, 78.0, 94.2, 60.4, 307),
    Backbone("InceptionV3", "inception_v3", "tf", 299, "mixed10", 8, 2048, "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5", 92, 77.9, 93.7, 23.9, 189),
    Backbone("InceptionResNetV2", "inception_resnet_v2", "tf", 299, "conv_7b_ac", 8, 1536, "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5", 215, 80.3, 95.3, 55.9, 449),
    Backbone("MobileNet", "mobilenet", "tf", 224, "conv_pw_13_relu", 7, 1024, "mobilenet_1_0_224_tf_no_top.h5", 16, 70.4, 89.5, 4.3, 55),
    Backbone("MobileNetV2", "mobilenet_v2", "tf", 224, "out_relu", 7, 1280, "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", 14, 71.3, 90.1, 3.5, 105),
    Backbone("MobileNetV3Small", "mobilenet_v3", "none", 224, "activation_17", 7, 576, "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5", None, 68.1, None, 2.9, None),
    Backbone("MobileNetV3Large", "mobilenet_v3", "none", 224, "activation_19", 7, 960, "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5", None, 75.6, None, 5.4, None),
    Backbone("DenseNet121", "densenet", "torch", 224, "relu", 7, 1024, "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5", 33, 75.0, 92.3, 8.1, 242),
    Backbone("DenseNet169", "densenet", "torch", 224, "relu", 7, 1664, "densenet169_weights_tf_dim_ordering_tf_kernels_notop.h5", 57, 76.2, 93.2, 14.3, 338),
    Backbone("DenseNet201", "densenet", "torch", 224, "relu", 7, 1920, "densenet201_weights_tf_dim_ordering_tf_kernels_notop.h5", 80, 77.3, 93.6, 20.2, 402),
    Backbone("NASNetMobile", "nasnet", "tf", 224, "activation_187", 7, 1056, "nasnet_mobile_no_top.h5", 23, 74.4, 91.9, 5.3, 389),
    Backbone("NASNetLarge", "nasnet", "tf", 331, "activation_259", 11, 4032, "nasnet_large_no_top.h5", 343, 82.5, 96.0, 88.9, 533),
    Backbone("EfficientNetB0", "efficientnet", "none", 224, "top_activation", 7, 1280, "efficientnetb0_notop.h5", 29, 77.1, 93.3, 5.3, 132),
    Backbone("EfficientNetB1", "efficientnet", "none", 240, "top_activation", 8, 1280, "efficientnetb1_notop.h5", 31, 79.1, 94.4, 7.9, 186),
    Backbone("EfficientNetB2", "efficientnet", "none", 260, "top_activation", 9, 1408, "efficientnetb2_notop.h5", 36, 80.1, 94.9, 9.2, 186),
    Backbone("EfficientNetB3", "efficientnet", "none", 300, "top_activation", 10, 1536, "efficientnetb3_notop.h5", 48, 81.6, 95.7, 12.3, 210),
    Backbone("EfficientNetB4", "efficientnet", "none", 380, "top_activation", 12, 1792, "efficientnetb4_notop.h5", 75, 82.9, 96.4, 19.5, 258),
    Backbone("EfficientNetB5", "efficientnet", "none", 456, "top_activation", 15, 2048, "efficientnetb5_notop.h5", 118, 83.6, 96.7, 30.6, 312),
    Backbone("EfficientNetB6", "efficientnet", "none", 528, "top_activation", 17, 2304, "efficientnetb6_notop.h5", 166, 84.0, 96.8, 43.3, 360),
    Backbone("EfficientNetB7", "efficientnet", "none", 600, "top_activation", 19, 2560, "efficientnetb7_notop.h5", 256, 84.3, 97.0, 66.7, 438),
    Backbone("EfficientNetV2B0", "efficientnet_v2", "none", 224, "top_activation", 7, 1280, "efficientnetv2-b0_notop.h5", 29, 78.7, 94.3, 7.2, None),
    Backbone("EfficientNetV2B1", "efficientnet_v2", "none", 240, "top_activation", 8, 1280, "efficientnetv2-b1_notop.h5", 34, 79.8, 95.0, 8.2, None),
    Backbone("EfficientNetV2B2", "efficientnet_v2", "none", 260, "top_activation", 9, 1408, "efficientnetv2-b2_notop.h5", 42, 80.5, 95.1, 10.2, None),
    Backbone("EfficientNetV2B3", "efficientnet_v2", "none", 300, "top_activation", 10, 1536, "efficientnetv2-b3_notop.h5", 59, 82.0, 95.8, 14.5, None),
    Backbone("EfficientNetV2S", "efficientnet_v2", "none", 384, "top_activation", 12, 1280, "efficientnetv2-s_notop.h5", 88, 83.9, 96.7, 21.6, None),
    Backbone("EfficientNetV2M", "efficientnet_v2", "none", 480, "top_activation", 15, 1280, "efficientnetv2-m_notop.h5", 220, 85.3, 97.4, 54.4, None),
    Backbone("EfficientNetV2L", "efficientnet_v2", "none", 480, "top_activation", 15, 1280, "efficientnetv2-l_notop.h5", 479, 85.7, 97.5, 119.0, None),
    Backbone("ConvNeXtTiny", "convnext", "none", 224, "layer_normalization", 7, 768, "convnext_tiny_notop.h5", 109.42, 81.3, None, 28.6, None),
    Backbone("ConvNeXtSmall", "convnext", "none", 224, "layer_normalization", 7, 768, "convnext_small_notop.h5", 192.29, 82.3, None, 50.2, None),
    Backbone("ConvNeXtBase", "convnext", "none", 224, "layer_normalization", 7, 1024, "convnext_base_notop.h5", 338.58, 85.3, None, 88.5, None),
    Backbone("ConvNeXtLarge", "convnext", "none", 224, "layer_normalization", 7, 1536, "convnext_large_notop.h5", 755.07, 86.3, None, 197.7, None),
    Backbone("ConvNeXtXLarge", "convnext", "none", 224, "layer_normalization", 7, 2048, "convnext_xlarge_notop.h5", 1310, 86.7, None, 350.1, None),
]
# fmt: on

BACKBONES = {backbone.name: backbone for backbone in _ROWS}


def backbone_named(name: str) -> Backbone:
    """The row of a backbone; case, `-` and `_` in its name don't matter.

    Raises:
        Refused: there is none; the message offers the nearest names.
    """
    plain = name.lower().replace("-", "").replace("_", "")
    if plain not in BACKBONES:
        raise Refused(f"no backbone is called {name!r}.{nearest(plain, list(BACKBONES))} All: python -m extract --list")
    return BACKBONES[plain]
