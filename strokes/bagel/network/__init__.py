"""The network: sizes read off a checkpoint, the modules, FLUX's autoencoder, and the forward of training.

Modules take tensors and give tensors; their layers come from an injected :class:`.operations.Operations`. They know
nothing of files, tokenizers, caches and sampling.
"""
