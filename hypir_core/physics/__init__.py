"""How a microscope makes a picture: point spread, camera, and what a measurement says of an estimate."""
