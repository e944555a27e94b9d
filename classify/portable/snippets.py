"""Code that calls an exported file, for the page beside it: format → text."""

PLACES = {
    "keras": "`label_names` in `metadata.json` of the archive that it is",
    "onnx": "`label_names` of its metadata",
    "openvino": "`label_names` below `rt_info/feature_stacks`",
}

PYTHON = """\
import json
import numpy as np
from PIL import Image, ImageOps
{loaded}

image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
{square}
given = probabilities(np.asarray(image)[None])[0]
print(names[given.argmax()], given.max())"""

LOADED = {  # probabilities: (n, size, size, 3) uint8 → (n, classes); and names
    "keras": """\
import zipfile
import keras
model = keras.saving.load_model("{name}", compile=False)
names = json.loads(json.loads(zipfile.ZipFile("{name}").read("metadata.json"))["label_names"])
probabilities = lambda pixels: np.asarray(model(pixels))""",
    "onnx": """\
import onnxruntime
session = onnxruntime.InferenceSession("{name}")
names = json.loads(session.get_modelmeta().custom_metadata_map["label_names"])
probabilities = lambda pixels: session.run(["probabilities"], {{"pixels": pixels}})[0]""",
    "openvino": """\
import openvino
model = openvino.Core().read_model("{name}")
names = json.loads(model.get_rt_info(["feature_stacks", "label_names"]).astype(str))
compiled = openvino.compile_model(model, "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
probabilities = lambda pixels: compiled(pixels)["probabilities"]""",
}

CPP = {
    "keras": "No runtime in C++ reads Keras's format: `python -m classify export MODEL --to onnx`, or `--to openvino`.",
    "onnx": """\
With ONNX Runtime:

```cpp
#include <onnxruntime_cxx_api.h>
#include <vector>

// pixels: %(size)s × %(size)s × 3, RGB
// Ort::Env env; Ort::Session session(env, "%(name)s", Ort::SessionOptions{});
std::vector<float> classify(Ort::Session& session, std::vector<uint8_t>& pixels) {
    std::vector<int64_t> shape{1, %(size)s, %(size)s, 3};
    auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    auto input = Ort::Value::CreateTensor<uint8_t>(memory, pixels.data(), pixels.size(), shape.data(), shape.size());
    const char *given[] = {"pixels"}, *wanted[] = {"probabilities"};
    auto output = session.Run(Ort::RunOptions{}, given, &input, 1, wanted, 1);
    const float* first = output[0].GetTensorData<float>();
    return {first, first + %(classes)s};
}
```""",
    "openvino": """\
With OpenVINO:

```cpp
#include <openvino/openvino.hpp>
#include <vector>

// pixels: %(size)s × %(size)s × 3, RGB
// ov::Core core;
// auto compiled = core.compile_model("%(name)s", "CPU", ov::hint::inference_precision(ov::element::f32));
std::vector<float> classify(ov::CompiledModel& compiled, std::vector<uint8_t>& pixels) {
    auto request = compiled.create_infer_request();
    request.set_input_tensor(ov::Tensor(ov::element::u8, {1, %(size)s, %(size)s, 3}, pixels.data()));
    request.infer();
    const float* first = request.get_output_tensor().data<float>();
    return {first, first + %(classes)s};
}
```""",
}

JS = {
    "keras": "Neither does one in JavaScript.",
    "onnx": """\
With ONNX Runtime, in a browser (`onnxruntime-web`) or in Node (`onnxruntime-node`):

```js
import * as ort from "onnxruntime-web";

const session = await ort.InferenceSession.create("%(name)s");
const pixels = new ort.Tensor("uint8", rgb, [1, %(size)s, %(size)s, 3]);  // rgb: a Uint8Array, without a canvas's alpha
const { probabilities } = await session.run({ pixels });
console.log(probabilities.data);
```""",
    "openvino": """\
With OpenVINO, in Node (`openvino-node`):

```js
import { addon as ov } from "openvino-node";

const core = new ov.Core();
const model = await core.readModel("%(name)s");
const compiled = await core.compileModel(model, "CPU", { INFERENCE_PRECISION_HINT: "f32" });
const pixels = new ov.Tensor(ov.element.u8, [1, %(size)s, %(size)s, 3], rgb);  // rgb: a Uint8Array
const { probabilities } = await compiled.createInferRequest().inferAsync([pixels]);
console.log(probabilities.data);
```""",
}

NOTES = {
    "keras": "The file holds stock Keras layers alone, and loads with `safe_mode=True`, Keras's default.",
    "onnx": "The file needs no operators beyond ONNX's own.",
    "openvino": "Say `f32` as above: OpenVINO's own default on CPUs that have it is bf16, with three digits.",
}
