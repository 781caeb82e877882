"""Weight files: tensors, what a file says about itself, where it lies, how it is fetched."""
