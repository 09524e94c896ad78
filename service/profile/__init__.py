"""``python -m service profile``: what every unit shape of every model costs on this machine, as a table and a file.

``measure`` runs the models on the lanes as they are configured, ``fit`` makes ``a * n + b`` of what it saw, ``file``
is what is written and what a service reads again, ``table`` is for people.
"""

from service.profile.file import Profile, ProfileRefused, read_profile, write_profile
from service.profile.measure import profile_models
from service.profile.table import profile_table

__all__ = ["Profile", "ProfileRefused", "profile_models", "profile_table", "read_profile", "write_profile"]
