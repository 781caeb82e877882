"""Pictures that follow each other: shots are found, treated alike, and kept steady. Everything is an iterator."""
