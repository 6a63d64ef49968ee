"""The world of coloured shapes: drawing, scene graphs, their language, and the checker. Knows no model and no training."""
