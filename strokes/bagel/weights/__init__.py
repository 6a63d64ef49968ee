"""Files of weights: opening a checkpoint."""
