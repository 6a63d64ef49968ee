"""The painter's process: the trajectory, its stages, dialects and loop. Knows no tensors."""
