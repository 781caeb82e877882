"""Enlarge a picture whose result does not fit into memory: boxes are read, rows are written as they are done.

uv run python docs/examples/stream_large.py PICTURE RESULT.tif
"""

import sys

from hypir_core import Request, Runtime, load_engine, pick_device, restore_stream
from hypir_core.files.sink import open_sink
from hypir_core.files.source import open_source

picture, result = sys.argv[1:]
device = pick_device("auto")
engine = load_engine("built-in", device=device)
scale = int(engine.spec.default_scale)
with open_source(picture) as source:
    height, width = source.sizes_px
    sink = open_sink(result, (scale * height, scale * width), source.channels, force=True)
    try:
        report = restore_stream(engine, source, sink, Request(), Runtime(device=device))
        sink.commit()
    except BaseException:
        sink.abort()
        raise
print(f"{report.output_px[1]}×{report.output_px[0]} px in {report.seconds:.1f} s, {report.stages[0].tiles}")
