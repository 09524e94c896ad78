"""What all tests share."""

import os

from hypothesis import settings

# Read by the libraries when they load. The pictures here are small: more threads would only wait for each other, and
# for the processes that tests start.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# A slow machine is no failure: Hypothesis' limit of 200 ms an example would make it one.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
