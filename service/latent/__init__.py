"""Latent codes served: images to codes, codes to images, new images, and the way from one image to another.

``prior`` knows where a model's codes lie, ``draws`` and ``way`` make codes, ``units`` is what lanes read and write,
``coder`` takes a call through the service, ``messages`` and ``answers`` are the API's forms, ``methods`` its methods.
"""
