"""Engines that draw chains: one file each, behind one protocol."""
