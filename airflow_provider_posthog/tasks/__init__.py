"""The floor under operators, sensors and transfers: what they share, and nothing that a DAG's author imports."""
