"""``/__emulator__/``: what tests set and inspect."""
