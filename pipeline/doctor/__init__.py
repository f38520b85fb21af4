"""What is installed and works on this machine, and for which job something is missing: ``autotag doctor``."""
