"""Colour fixes: what a restored picture takes over from its input."""
