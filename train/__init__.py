"""Headless training of every engine: ``python -m train PRESET.yaml key=value …``."""
