"""Erasing persons so that it can be proved: find them all, ask for their deletion, and look until nothing is left."""
