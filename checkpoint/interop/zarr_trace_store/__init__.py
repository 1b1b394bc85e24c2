"""Stores that PyMC's own ZarrTrace wrote with zarr 2, read without pickles."""
