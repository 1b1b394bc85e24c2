"""Interfaces and formats of other packages. A newcomer to the package may skip it."""
