"""Bytes <-> values, and the names of keys. Knows no store and no PyMC."""
