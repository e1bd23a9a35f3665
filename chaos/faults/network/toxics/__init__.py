"""What can go wrong on the way to a store: one file per kind, with the value a user declares and the proxy's part."""
