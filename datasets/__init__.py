"""Data sets, one module each: card, remotes, reader, split rules.

``registry`` lists them, ``dataset`` says what a data set is, ``reading`` joins the one that the settings name with the
manifest (preprocessing). Imports run from here to preprocessing and never back.
"""
