"""Pictures as files: which formats there are, reading, writing, and what travels beside the pixels.

Conventions:
- Content decides the format on reading, never the extension. Of an animation or a multi-page file one picture is
  read, the first unless a page is named, and `Picture.notes` says so. What would be lost in silence (bands, slices of
  a stack) is refused with both numbers.
- What becomes of everything else that a file carries is told by one table, `metadata.kept`.
- Large files go in boxes and rows: `source` reads a box, `sink` takes rows from top to bottom.
- Pixels are turned upright on reading (EXIF orientation 1 to 8); the EXIF block that is kept, and written,
  says orientation 1. Everything else in it stays, but see `metadata.exif` for the pixel size and the thumbnail.
- An ICC profile is kept with the pixels that it describes, unconverted. CMYK is converted to 8-bit sRGB,
  through its profile where it has one, and the profile is dropped. A profile is written only where its
  colour space (grey, RGB) is that of the picture written.
- An associated (premultiplied) alpha is undone on reading; alpha is written unassociated.
- Samples are written as floor(clamp(x, 0, 1) * max + 0.5), without dithering.
"""
