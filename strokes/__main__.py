"""``python -m strokes``: what ``accelerate launch -m strokes …`` starts in each process."""

from .cli.main import main

# Worker processes import this module too.
if __name__ == "__main__":
    main()
