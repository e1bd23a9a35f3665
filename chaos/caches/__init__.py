"""Caches in Redis over SQLite and over the graph: filled only from committed rows, each with its sequence number."""
