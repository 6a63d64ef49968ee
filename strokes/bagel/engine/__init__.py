"""Inference: prefixes and their keys and values, text decoding, flow sampling."""
