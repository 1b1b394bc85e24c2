"""The verbs of the command line, each with the line that `--help` shows of it."""

__all__ = ["SUMMARIES"]

SUMMARIES = {
    "compact": "Make a zip file smaller.",
    "convert": "Write a run into another store.",
    "history": "Show when a run was sampled, and how each session ended.",
    "repair": "Repair a zip file whose writer was killed.",
    "resume": "Continue a run without its script.",
    "run": "Run a script, and start it again if it crashes.",
    "status": "Show how far a run is.",
    "verify": "Check that a run is as it was written.",
}
"""By name. Each verb is the function of that name in the file of that name."""
