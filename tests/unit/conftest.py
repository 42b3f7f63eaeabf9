"""What the unit tests share."""

from hypothesis import settings

# How long an example takes says how busy the machine is, nothing about the code.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
