"""Noise as it is in the user's own images: measured by ``fit-noise``, and learnt from without clean truth."""
