"""Paint a picture in strokes: plan, sketch, inspect, refine. The engine; it imports nothing of ComfyUI."""
