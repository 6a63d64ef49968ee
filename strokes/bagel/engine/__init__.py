"""The inference engine: prefixes and their KV cache, text decoding, flow sampling; one process or a batch of many."""
