"""Write a picture's rows as they come, top to bottom: TIFF, PNG and npy."""
