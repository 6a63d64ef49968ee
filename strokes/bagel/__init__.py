"""The BAGEL network and its inference engine: tensors in, tensors out.

Knows prompts, stages and files of the project only through :mod:`strokes.bagel.painter`,
which fulfils the protocol of :mod:`strokes.process.painter`.
"""
