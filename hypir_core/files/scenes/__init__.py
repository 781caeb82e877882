"""Scenes: files of any bands and axes that are read in boxes and written in strips: rasters, volumes, stacks.

Conventions:
- An axis has a letter: t time, z slices, y rows, x columns; c are the channels (bands). Spatial axes are in the order
  t z y x, whatever the file's order is.
- Values are the file's own. A stored number becomes one by `slope · number + intercept` where the file says so.
- A cell has no data where any band of it is NaN, infinite or the file's nodata value, or where the file's mask says so.
- The result covers the same ground: same corner, cells smaller by the factor.
"""
