"""``python -m strokes``: what ``accelerate launch -m strokes …`` starts in each process."""

from .cli import main

main()
