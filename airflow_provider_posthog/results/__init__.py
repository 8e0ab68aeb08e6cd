"""What an answer of PostHog is worth: whether it is whole, and whether it may take the place of what is there."""
