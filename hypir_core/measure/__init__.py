"""How fast, in how much memory, and how near to what the machine can do: the measurements of ``hypir bench``."""
