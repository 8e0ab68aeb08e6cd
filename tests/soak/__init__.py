"""Half an hour of the example DAGs on a whole Airflow, under random faults and kills; then the books are checked."""
