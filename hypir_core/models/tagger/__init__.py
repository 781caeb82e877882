"""The network that names the things in a picture: Recognize Anything (RAM)."""
