"""The BAGEL network and its inference engine, behind the painter of :mod:`strokes.bagel.painter`."""
