"""``python -m service.demo``, which is ``make demo``: a service, real photographs, several clients, one page.

``__main__`` tells the story, ``process`` runs the service, ``pictures`` makes noisy photographs and measures what
became of them, ``traffic`` sends them.
"""
