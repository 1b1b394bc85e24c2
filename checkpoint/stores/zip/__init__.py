"""A store in one zip file: append to it, compact it, and recover its entries after a crash."""
