"""python predict_standalone.py BUNDLE IMAGE...: what `ofav2 predict` answers, with onnxruntime, numpy, pillow alone."""

import json
import sys

import numpy as np
from onnxruntime import InferenceSession
from PIL import Image, ImageOps

config = json.load(open(f"{sys.argv[1]}/config.json"))
model, p, bilinear = config["models"]["onnx"], config["preprocessing"], Image.Resampling.BILINEAR
chain = [InferenceSession(f"{sys.argv[1]}/{name}") for name in model["segments"] or [model["file"]]]
side, crop, scale = p["stored"], p["crop"], p["stored"] / p["resize"]
box = [scale * (round((p["resize"] - crop) / 2) + n) for n in (0, 0, crop, crop)]  # the centre, in stored pixels
for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert(p["mode"])
    image = image.resize([max(side, round(n * (side / min(image.size)))) for n in image.size], bilinear)
    left, top = ((n - side) // 2 for n in image.size)
    bands = image.crop((left, top, left + side, top + side)).split()
    pixels = np.stack([band.convert("F").resize((crop, crop), bilinear, box) for band in bands])
    x = [((pixels / 255 - np.reshape(p["mean"], (3, 1, 1))) / np.reshape(p["std"], (3, 1, 1)))[None].astype("float32")]
    for exit, session in zip(config["exits"], chain, strict=True):  # early exits: of the rule max_prob
        *x, logits = session.run(None, {session.get_inputs()[0].name: x[0]})
        scores = np.exp((logits[0] - logits[0].max()) / exit["temperature"])
        if 1 / scores.sum() >= (exit["threshold"] or 2):  # the largest probability; the last exit has no threshold
            break
    best = {config["class_names"][i]: round(float(scores[i] / scores.sum()), 4) for i in np.argsort(-scores)[:5]}
    print(path, exit["number"], json.dumps(best), sep="\t")
