"""BAGEL: its network, the engine that runs it, its checkpoints, and the painter that the process knows it by."""
