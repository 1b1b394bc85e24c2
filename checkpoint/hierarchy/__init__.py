"""The Zarr tree of a run: its root, its nodes and their documents."""
