"""What a run shows without its model, and whether it is whole."""
