"""The database schema and its history, one for SQLite and PostgreSQL."""
