"""Name what is on photos, with a network of trials.export: python docs/classify_onnx.py model.onnx photo.jpg ..."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
metadata = session.get_modelmeta().custom_metadata_map
how, classes = json.loads(metadata["preprocessing"]), json.loads(metadata["classes"])
side, short, opencv = how["resolution"], how["short_side"], how["resize"] == "opencv"

for path in sys.argv[2:]:
    image = Image.open(path).convert("RGB")
    scale = short and [short * length / min(image.size) for length in image.size]
    size = tuple(int(length + 0.5 * opencv) for length in scale or (side, side))  # the long side is cut off, or rounded
    box = (0, 0, *image.size)
    extent = Image.Transform.EXTENT  # without antialiasing
    image = image.transform(size, extent, box, Image.BILINEAR) if opencv else image.resize(size, Image.BILINEAR)
    left, top = (round((length - side) / 2) for length in size)
    pixels = np.asarray(image.crop((left, top, left + side, top + side)), np.float32).transpose(2, 0, 1)
    pixels = pixels[::-1] if how["channels"] == "BGR" else pixels
    mean, std = (np.array(how[name], np.float32).reshape(3, 1, 1) for name in ("mean", "std"))
    images = ((pixels / (255 if how["range"] == 1 else 1) - mean) / std)[None]
    (logits,) = session.run(["logits"], {"images": images})
    print(f"{path}: {classes[int(logits[0].argmax())]}")
