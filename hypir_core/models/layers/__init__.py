"""Layers that networks share, and quicker forms of them."""
