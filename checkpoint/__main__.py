"""`python -m checkpoint`: the command line."""

from checkpoint.cli import main

if __name__ == "__main__":
    main(prog_name="python -m checkpoint")
