"""The network: tensors in, tensors out, every layer from an injected ``operations`` namespace."""
