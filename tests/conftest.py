"""What all tests share."""

from hypothesis import settings

# A slow machine is no failure: Hypothesis' limit of 200 ms an example would make it one.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
