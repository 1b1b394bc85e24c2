"""The only package that touches PyMC's internals and knows its versions.

Supported are PyMC 5.28 to 6.x. Where the two differ, the difference is bridged here.
"""
