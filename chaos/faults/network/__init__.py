"""Faults of the network between the system under test and a store: declared here, carried out by a proxy process.

A file per kind holds both halves: the value that a user declares, and the toxic that acts inside the proxy.
"""
