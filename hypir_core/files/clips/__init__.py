"""Clips: pictures with times, and sound beside them, read and written frame by frame with PyAV."""
