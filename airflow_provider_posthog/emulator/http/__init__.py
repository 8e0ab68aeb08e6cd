"""Requests and answers: sockets, keys, limits, faults, pages."""
