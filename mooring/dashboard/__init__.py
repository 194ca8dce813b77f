"""The operator's dashboard: pages rendered here, on top of the services that the JSON API uses."""
