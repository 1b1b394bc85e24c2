"""Refuse a model that draws random numbers of its own, before anything is drawn or written."""

from checkpoint._pymc.randomness import randomness
from checkpoint._pymc.setup import Arguments, Preparation
from checkpoint.errors import RandomModelError

__all__ = ["check_not_random"]


def check_not_random(arguments: Arguments, preparation: Preparation) -> None:
    """Check that what a model computes follows from its variables and its data.

    Raises
    ------
    RandomModelError
        If not; it names each variable that does not.
    """
    found = randomness(preparation)
    if not found:
        return
    lines = "\n".join(f"  - {line}" for line in found)
    if "random_seed" in arguments.compile_kwargs:
        reach = (
            "The seed in compile_kwargs reaches it, but the state of its generator is inside "
            "compiled functions and cannot be recorded with a draw. pm.sample repeats itself with "
            "that seed, and cannot be continued either."
        )
    else:
        reach = "No seed reaches it: pm.sample with one random_seed is not reproducible either."
    raise RandomModelError(
        f"The model draws random numbers of its own:\n{lines}\n{reach} Nothing was drawn or "
        "changed. Make it a variable of the model, or draw it once, outside "
        "(pm.draw(..., random_seed=...)); leave a deterministic out with var_names; use all data "
        "instead of a minibatch; give a simulator a generator that it seeds itself, or use "
        "pm.sample_smc."
    )
