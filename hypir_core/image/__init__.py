"""Pictures in memory: sizes, resizing, comparison."""
