"""What a picture file carries beside its pixels."""
