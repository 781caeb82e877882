"""Samplers: from x at one noise level and a clean estimate to x at the next."""
