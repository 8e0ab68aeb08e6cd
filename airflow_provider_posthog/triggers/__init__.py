"""What deferred tasks leave behind in the triggerer."""
