"""The store: projects, events, and the server's own state as tables."""
