"""Networks and what is attached to them."""
