"""Install this machine's wheel from an index."""
