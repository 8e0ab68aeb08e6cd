"""Arrow tables into SQL databases, in one transaction and with a count; knows nothing of Airflow."""
