"""Where tiles lie, how they blend, how they run."""
