"""Checkpoints: the files of a model folder, and the network loaded from them."""
