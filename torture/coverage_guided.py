"""`python -m torture.coverage_guided READER CORPUS`: fuzz one reader with atheris."""

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["checkpoint"]):
    from torture.readers import READERS


def main() -> None:
    """Hand a reader to atheris; options of libFuzzer follow."""
    name, *rest = sys.argv[1:]
    reader = next(reader for reader in READERS if reader.name == name)

    def once(data: bytes) -> None:
        with contextlib.suppress(reader.declared):
            reader.read(reader.refitted(data) if len(data) % 2 else data)

    atheris.Setup([sys.argv[0], *rest], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
