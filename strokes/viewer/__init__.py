"""A trajectory to look at in a browser."""
