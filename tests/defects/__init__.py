"""Defects that are put in on purpose: each turns at least one test red, or a test is missing."""
