"""What is in a picture: names with their probabilities, and the tokens that SeeSR's networks look at."""
