"""Make a photograph worse, restore it, and measure how much came back.

uv run python docs/examples/degrade_and_measure.py PHOTO
"""

import sys

import torch

from hypir_core import (
    Request,
    Runtime,
    TargetSize,
    load_engine,
    pick_device,
    read_picture,
    restore,
    to_planes,
)
from hypir_core.degrade import degrade, load_recipe
from hypir_core.image.resize import resize
from hypir_core.metrics.fidelity import psnr_y, ssim

(photo,) = sys.argv[1:]
device = pick_device("auto")
engine = load_engine("built-in", device=device)
original, _ = to_planes(read_picture(photo))
worse = degrade(original, load_recipe("jpeg-web"), generator=torch.Generator().manual_seed(0), scale=4)
print(worse.notes[0])
size = original.shape[-2:]
request = Request(target=TargetSize(longest_side_px=max(size)))
restored = restore(engine, worse.lq_01, request, Runtime(device=device)).image_01
for name, picture in (("bicubic", resize(worse.lq_01, size)), ("restored", resize(restored, size))):
    image = picture.clamp(0, 1)
    print(f"{name}: PSNR-Y {psnr_y(image, original).item():.2f} dB, SSIM {ssim(image, original).item():.4f}")
