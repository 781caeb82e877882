"""Networks that restore in one pass."""
