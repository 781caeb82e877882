"""Files and folders: which pictures there are, how results are called, what is done already."""
