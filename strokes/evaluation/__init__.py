"""Evaluation: ways of painting a prompt (arms) and the statistics that compare them."""
