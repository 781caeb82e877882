"""Edits of the clean estimate."""
