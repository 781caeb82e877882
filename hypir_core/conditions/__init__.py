"""Condition pictures: what a ControlNet reads beside the degraded picture."""
