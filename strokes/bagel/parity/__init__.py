"""Parity: the engine held against golden tensors of the reference implementation."""
