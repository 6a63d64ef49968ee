"""Training data of the shapes world: synthetic samples and the annotator."""
