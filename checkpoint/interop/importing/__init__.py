"""Make a run from draws that other programs recorded."""
