"""Write the rows of chains to a store, and recover them after a crash."""
