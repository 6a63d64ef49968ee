"""Recipes: what a training command runs from start to end."""
