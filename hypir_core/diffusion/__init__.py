"""The formulas of diffusion: schedules and predictions."""
