"""Recipes: a training command from start to end."""
