"""HogQL text -> ClickHouse SQL, and what PostHog answers of it."""
