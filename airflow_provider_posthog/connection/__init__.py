"""What stands in a connection: its address, its fields, its form."""
