"""What draws depend on besides the model."""

import threadpoolctl

from checkpoint.chains.environment import environment, environment_changes


def test_another_kernel_of_blas_is_named_old_and_new(monkeypatch):
    before = environment()
    pools = [{"user_api": "blas", "num_threads": 1, "architecture": "Prescott"}]
    monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda: pools)
    [line] = [line for line in environment_changes(before, environment()) if "kernel" in line]
    assert line == f"blas kernel: recorded as {before['blas kernel']}, now Prescott"


def test_a_run_from_before_the_kernel_was_recorded_gives_no_warning():
    before = environment()
    del before["blas kernel"]
    assert environment_changes(before, environment()) == []
