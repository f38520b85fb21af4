"""One comparison from one file: networks, recipes, data sets and seeds under one setting."""
