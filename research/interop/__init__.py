"""Models that other programs made or are to run: files of theirs to parameters and vocabularies, and back."""
