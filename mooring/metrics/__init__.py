"""The numbers of the processes of one hub, for Prometheus (rules A7, L3, R19)."""
