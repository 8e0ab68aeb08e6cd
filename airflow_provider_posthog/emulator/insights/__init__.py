"""Insights, dashboards and the query nodes behind them."""
