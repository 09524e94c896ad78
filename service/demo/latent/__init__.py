"""``python -m service.demo.latent``, which is ``make demo-latent``: what models with a latent code can do, on one page.

``__main__`` tells the story, ``digits`` has the pictures, ``scenes`` asks the service and measures, ``page`` shows it.
"""
