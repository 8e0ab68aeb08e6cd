"""Rows and files in bulk. Uses api/, knows nothing of Airflow."""
