"""LoRA files: names, forms, checks, merging into weights, conversion."""
