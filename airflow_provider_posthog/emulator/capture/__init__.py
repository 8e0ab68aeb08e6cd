"""How PostHog takes events in: its capture endpoints, and what becomes of the events behind them."""
