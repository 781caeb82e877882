"""One training run: its loop, checkpoints, resuming, export, tracking."""
