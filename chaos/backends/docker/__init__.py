"""Servers in containers: made for one run, or those of a compose stack that is up."""
