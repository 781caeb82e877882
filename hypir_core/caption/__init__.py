"""Words for a picture, for the engines that listen to a prompt."""
