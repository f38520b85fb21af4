"""A synthetic corpus in MagnaTagATune's layout: music in the small, with annotations as noisy as listeners'.

``styles`` says what is played and which tags it carries, ``score`` writes the notes, ``instruments``, ``singing`` and
``drums`` sound them, ``render`` mixes and masters, ``listeners`` annotates, ``plan`` lays out tracks and clips, and
``corpus`` writes the files.
"""
