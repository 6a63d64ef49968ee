"""Parity: the engine compared with golden tensors, which the reference implementation produced."""
