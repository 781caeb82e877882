"""Scenes through an engine: rasters of any bands, volumes, stacks."""
