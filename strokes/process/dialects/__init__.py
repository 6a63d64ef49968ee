"""How checkpoints are spoken to, one file a dialect; a person may add one as a file of texts and numbers."""
