"""The README's example without extras: killed the first time, continued the second."""

import os
import signal
import sys

from eight_schools import model

import checkpoint


def die(trace, draw):
    if draw.draw_idx == 700:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    killed = "--die" in sys.argv
    with model():
        idata = checkpoint.sample(
            "fit.zarr",
            draws=500,
            tune=500,
            chains=2,
            cores=1,
            random_seed=42,
            callback=die if killed else None,
        )
    run = checkpoint.open("fit.zarr")
    assert run.finished, run
    assert idata.posterior["theta"].shape == (2, 500, 8)
    print(run)
