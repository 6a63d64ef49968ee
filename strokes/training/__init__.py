"""The world of coloured shapes, training data in the paper's format, and the training of the embedded model."""
