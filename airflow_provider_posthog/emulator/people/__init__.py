"""Persons, groups, events that come in, and deletions."""
