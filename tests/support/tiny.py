"""The smallest run that the trials of the bench are tried on."""

from models import normals
from settings import SMALL
from torture.warm import Case

TINY = Case(
    normals,
    {"draws": 20, "tune": 10, "chains": 2, "cores": 1, "random_seed": 2, "draws_per_chunk": 7}
    | SMALL,
    step="Metropolis",
)
