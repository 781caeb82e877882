"""Show how far a run is, and stop it after a few seconds.

uv run python docs/examples/progress_and_cancel.py PHOTO SECONDS
"""

import sys
import time

from hypir_core import Request, Runtime, load_engine, pick_device, read_picture, restore, to_planes
from hypir_core.errors import Cancelled

photo, seconds = sys.argv[1:]
device = pick_device("auto")
engine = load_engine("built-in", device=device)
end = time.monotonic() + float(seconds)
runtime = Runtime(
    device=device,
    batch_tiles=1,
    progress=lambda tick: print(
        f"{tick.stage}: tile {tick.done} of {tick.total}, {tick.whole:.0%} of the run"
    ),
    should_stop=lambda: time.monotonic() > end,
)
try:
    restore(engine, to_planes(read_picture(photo))[0], Request(), runtime)
    print("done")
except Cancelled as stopped:
    print(stopped)
