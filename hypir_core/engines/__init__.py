"""Engines: weights and a spec that turn a request into a row of stages."""
