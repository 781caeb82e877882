"""Restore one photograph with the restorer inside the package.

uv run python docs/examples/restore_one.py PHOTO RESULT
"""

import sys

from hypir_core import (
    Request,
    Runtime,
    load_engine,
    pick_device,
    picture_text,
    read_picture,
    restore,
    to_planes,
    write_picture,
)

photo, result = sys.argv[1:]
device = pick_device("auto")
engine = load_engine("built-in", device=device)
picture = read_picture(photo)
color_01, alpha_01 = to_planes(picture)
request = Request()
restored = restore(engine, color_01, request, Runtime(device=device), alpha_01=alpha_01)
write_picture(
    result,
    restored.image_01,
    alpha_01=restored.alpha_01,
    like=picture,
    text=picture_text(request, restored.report),
)
print(restored.report.to_json(indent=2))
