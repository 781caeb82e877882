"""Pictures: planes, files, sizes."""
