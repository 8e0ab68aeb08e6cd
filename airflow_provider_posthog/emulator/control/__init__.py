"""``/__emulator__/``: what tests set and look at."""
