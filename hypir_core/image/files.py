"""Read and write pictures, with everything that travels in the file beside the pixels.

Conventions:
- Content decides the format on reading, never the extension. Of an animation or a multi-page file the first
  picture is read.
- Pixels are turned upright on reading (EXIF orientation 1 to 8); the EXIF block that is kept, and written,
  says orientation 1. Everything else in it stays, but see `exif` for the pixel size and the thumbnail.
- An ICC profile is kept with the pixels that it describes, unconverted. CMYK is converted to 8-bit sRGB,
  through its profile where it has one, and the profile is dropped. A profile is written only where its
  colour space (grey, RGB) is that of the picture written.
- An associated (premultiplied) alpha is undone on reading; alpha is written unassociated.
- Samples are written as floor(clamp(x, 0, 1) * max + 0.5), without dithering.
"""

from __future__ import annotations

from ..atomic import atomic_file
from .formats import FORMATS, PictureFormat, is_picture_path, output_extension
from .picture import Picture, to_planes
from .reading import MAX_PIXELS, content_hash, read_picture, read_text
from .writing import write_picture

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "Picture",
    "PictureFormat",
    "atomic_file",
    "content_hash",
    "is_picture_path",
    "output_extension",
    "read_picture",
    "read_text",
    "to_planes",
    "write_picture",
]
