"""Groups of tasks that belong together, each made by one call."""
