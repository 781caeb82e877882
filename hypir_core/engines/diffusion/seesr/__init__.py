"""SeeSR and its turbo variant: a few guided steps, the picture's own tags, a ControlNet that holds the structure."""
