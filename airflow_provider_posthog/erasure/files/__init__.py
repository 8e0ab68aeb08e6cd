"""Erasing persons' rows from files that were written from PostHog."""
