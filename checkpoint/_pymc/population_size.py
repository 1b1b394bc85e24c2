"""Check the size of a population of chains by PyMC's own rule."""

from pymc.sampling.population import warn_population_size

from checkpoint._pymc.setup import Preparation
from checkpoint.errors import ArgumentError

__all__ = ["check_population"]


def check_population(preparation: Preparation) -> None:
    """Check that a population has as many chains as PyMC requires.

    Raises
    ------
    ArgumentError
        If it has fewer, with PyMC's message. PyMC only warns if there are enough, but few.
    """
    if not preparation.is_population:
        return
    try:
        warn_population_size(
            step=preparation.step,
            initial_points=preparation.initial_points,
            model=preparation.model,
            chains=preparation.chains,
        )
    except ValueError as error:
        raise ArgumentError(f"{error}. Nothing was written.") from error
