"""Traces of PyMC's, in all versions that are supported."""

from checkpoint._pymc.results import recorder_into


class Of5280:
    def record(self, point, sampler_stats=None):
        self.taken = (point, sampler_stats)


class OfLater:
    def record(self, point, sampler_stats=None, *, in_warmup):
        self.taken = (point, sampler_stats, in_warmup)


def test_a_trace_is_told_of_warm_up_if_it_asks():
    old, new = Of5280(), OfLater()
    for trace in (old, new):
        recorder_into(trace)({"x": 1}, [{}], True)
    assert old.taken == ({"x": 1}, [{}])
    assert new.taken == ({"x": 1}, [{}], True)
