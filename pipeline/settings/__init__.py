"""A configuration: its sections as models, recipes, changes from the command line, files of 0.1."""
