"""An embedded PostHog: a real HTTP server with state, for developing and testing DAGs without an account.

Start it with ``python -m airflow_provider_posthog.emulator`` or, from Python, with
:class:`airflow_provider_posthog.emulator.process.EmulatorProcess`. Needs the extra ``emulator``.

Nothing in here imports the rest of the provider: a misreading of PostHog on the client's side must not be
repeated on the server's side.
"""
