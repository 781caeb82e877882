"""Where weights lie on this machine."""
