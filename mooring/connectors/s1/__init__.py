"""The front end for `.s1.yaml` connector files: read as they are, compiled into the same internal forms as our own."""
