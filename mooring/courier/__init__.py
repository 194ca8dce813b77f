"""The courier: a small process that carries token requests, so that the death of a web process loses no answer.

A provider that rotates refresh tokens spends the old one the moment it answers. Whoever sends the request must therefore
live until the answer is safe. Web processes are large and come and go; the courier does one thing: it sends the request,
writes the answer to a sealed journal, and keeps it until somebody has stored it and says so.
"""
