"""Training of the network on samples of any world: packing, losses, the training loop and its saved state."""
