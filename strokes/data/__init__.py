"""Training data: samples, shards, rollouts of a model, and the annotator's protocol."""
