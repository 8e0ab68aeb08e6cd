"""What is measured, each in a process of its own: ``python client.py URL FOLDER ...``."""
