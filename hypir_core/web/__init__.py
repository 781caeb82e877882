"""The web page: one person, one browser, the same walk as the command line."""
