"""Models of many kinds, each with changes in one place: what a fingerprint must notice.

A model is a function of one argument, the name of the place that is changed, or None. What differs
from one call to the next is only that place.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.compile.ops import as_op
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

Build = Callable[[str | None], pm.Model]

DATA = np.sin(np.arange(30.0))
GROUPS = np.arange(30) % 3


class Place:
    """Chooses between a value and another one, and remembers which places there are."""

    def __init__(self, changed: str | None) -> None:
        self.changed = changed
        self.names: list[str] = []

    def __call__(self, name: str, usual: Any, other: Any) -> Any:
        self.names.append(name)
        return other if name == self.changed else usual


def hierarchical(at: Place) -> pm.Model:
    dims = at("order of dims", ("group", "side"), ("side", "group"))
    with pm.Model(coords={"group": list("abc"), "side": ["l", "r", "m"]}) as model:
        mu = pm.Normal("mu", 0, at("prior's sd", 1, 100))
        tau = at("prior's kind", pm.HalfNormal, pm.HalfCauchy)("tau", 2)
        z = pm.Normal("z", dims=dims)
        theta = pm.Deterministic("theta", at("formula", mu + tau * z, mu - tau * z), dims=dims)
        x = pm.Data("x", at("data", DATA, DATA + (np.arange(30) == 7)))
        loc = theta[GROUPS, at("index", 0, 1)] * x
        pm.Normal("y", loc, at("likelihood's sd", 1.0, 10.0), observed=np.cos(DATA))
    return model


def mixture(at: Place) -> pm.Model:
    with pm.Model() as model:
        w = pm.Dirichlet("w", at("concentration", np.ones(2), np.array([1.0, 2.0])))
        centre = pm.Normal(
            "centre", 0, 3, shape=2,
            transform=at("transform", pm.distributions.transforms.ordered, None),
            initval=np.array([-1.0, at("start", 1.0, 2.0)]),
        )  # fmt: skip
        kind = at("components", pm.Normal, pm.Laplace)
        parts = kind.dist(centre, at("components' scale", 1.0, 2.0))
        pm.Mixture("y", w, parts, observed=at("observations", DATA, DATA * 2))
    return model


def gaussian_process(at: Place) -> pm.Model:
    with pm.Model() as model:
        scale = pm.InverseGamma("scale", at("shape", 5, 6), 5)
        kernel = at("kernel", pm.gp.cov.ExpQuad, pm.gp.cov.Matern52)(1, scale)
        gp = pm.gp.Latent(cov_func=at("amplitude", 1.0, 2.0) * kernel)
        f = gp.prior("f", at("inputs", np.arange(6.0), np.arange(6.0) * 2)[:, None])
        pm.Normal("y", f, 1, observed=DATA[:6])
    return model


def series_with_scan(at: Place) -> pm.Model:
    with pm.Model() as model:
        rho = pm.Uniform("rho", at("lower bound", -1, 0), 1)
        e = pm.Normal("e", shape=10)

        def step(shock: Any, before: Any, rho: Any) -> Any:
            return at("step", rho * before + shock, rho * before - shock)

        level = pytensor.scan(
            step, sequences=[e], outputs_info=[pt.as_tensor(np.float64(at("first", 0.0, 1.0)))],
            non_sequences=[rho],
            **at_scan(),
        )  # fmt: skip
        level = level[0] if isinstance(level, list | tuple) else level
        pm.Deterministic("level", level)
        pm.Normal("y", level, 1, observed=DATA[:10])
    return model


def at_scan() -> dict[str, Any]:
    """Return the argument that newer versions of PyTensor ask for."""
    import inspect

    known = inspect.signature(pytensor.scan).parameters
    return {"return_updates": False} if "return_updates" in known else {}


def autoregression(at: Place) -> pm.Model:
    with pm.Model() as model:
        rho = pm.Normal("rho", 0, 0.5, shape=2)
        first = pm.Normal.dist(0, at("first values' sd", 1.0, 2.0))
        pm.AR("y", rho, at("noise", 1.0, 2.0), init_dist=first, observed=DATA)
    return model


def censored(at: Place) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu", at("centre", 0, 1), 1)
        inner = pm.Normal.dist(mu, at("inner sd", 1.0, 2.0))
        upper = at("bound", 0.9, 0.95)
        pm.Censored("y", inner, lower=None, upper=upper, observed=np.minimum(DATA, 0.9))
        base = pm.Exponential.dist(at("truncated rate", 1.0, 2.0))
        pm.Truncated("t", base, lower=0, upper=at("truncation", 3.0, 4.0))
    return model


def custom_logp(at: Place) -> pm.Model:
    weights = at("data in a closure", DATA, DATA + (np.arange(30) == 3))
    power = at("number in a closure", 2, 4)
    listed = at("list in a closure", [1.0, 2.0], [1.0, 3.0])

    def usual(value: Any, mu: Any) -> Any:
        return -((value - mu) ** power) * weights.sum() - listed[0] * value**2

    def other(value: Any, mu: Any) -> Any:
        return -((value - mu) ** power) * weights.sum() - listed[1] * value**2

    def renamed(v: Any, m: Any) -> Any:
        return -((v - m) ** power) * weights.sum() - listed[0] * v**2

    with pm.Model() as model:
        mu = pm.Normal("mu")
        logp = at("code", usual, other)
        if at.changed == "_other names":
            logp = renamed
        pm.CustomDist("x", at("parameter", mu, mu * 2), logp=logp)
    return model


def custom_symbolic(at: Place) -> pm.Model:
    def draw(mu: Any, size: Any) -> Any:
        inner = at("inner distribution", pm.Normal, pm.Logistic).dist(mu, 1, size=size)
        return at("inner formula", pt.exp(inner), pt.exp(inner) + 1)

    with pm.Model() as model:
        pm.CustomDist("x", at("parameter", 0.0, 0.5), dist=draw)
    return model


def potentials(at: Place) -> pm.Model:
    with pm.Model() as model:
        x = pm.Normal("x", shape=3)
        penalty = at("constant", 2.0, 3.0)
        pm.Potential("p", at("potential", -penalty * pt.sum(x**2), -penalty * pt.sum(abs(x))))
        if at("a second one", False, True):
            pm.Potential("q", x[0])
    return model


def large_regression(at: Place) -> pm.Model:
    rng = np.random.default_rng(1)
    design, y = rng.normal(size=(2000, 4)), rng.normal(size=2000)
    if at("one of 8,000 values", False, True):
        design[1234, 2] += 1e-9
    if at("one of 2,000 outcomes", False, True):
        y[77] = 0.0
    with pm.Model() as model:
        beta = pm.Normal("beta", 0, at("prior's sd", 1.0, 1.5), shape=4)
        sigma = pm.Exponential("sigma", at("rate", 1.0, 1.1))
        loc = design @ beta if at("link", True, False) else pt.exp(design @ beta)
        at("noise", pm.Normal, pm.Laplace)("y", loc, sigma, observed=y)
    return model


def counts_with_shared(at: Place) -> pm.Model:
    exposure = pytensor.shared(at("shared variable", np.arange(1.0, 31.0), np.arange(2.0, 32.0)))
    with pm.Model() as model:
        rate = pm.Gamma("rate", 2, at("rate's rate", 1, 3), shape=3)
        mu = rate[at("grouping", GROUPS, GROUPS[::-1].copy())] * exposure
        kind = at("likelihood", pm.Poisson, pm.Geometric)
        mu = mu if kind is pm.Poisson else 1 / (1 + mu)
        kind("y", mu, observed=np.arange(30) + 1)
    return model


def multivariate(at: Place) -> pm.Model:
    with pm.Model(coords={"arm": at("coords", list("ab"), list("ac"))}) as model:
        sd = at("sd's prior", pm.Exponential, pm.HalfNormal).dist(1.0)
        chol, *_ = pm.LKJCholeskyCov("chol", n=2, eta=at("eta", 2, 4), sd_dist=sd)
        mu = pm.ZeroSumNormal("mu", at("sigma", 1, 2), dims="arm")
        pm.MvNormal("y", mu, chol=chol, observed=DATA.reshape(15, 2))
    return model


FACTOR = 2.0


def black_box(at: Place) -> pm.Model:
    shift = at("number in an Op's closure", 1.0, 2.0)

    def usual(x: Any) -> Any:
        return np.array(x * FACTOR + shift)

    def other(x: Any) -> Any:
        return np.array(x / FACTOR + shift)

    inner = at("an Op's function", usual, other)
    op = as_op(itypes=[pt.dscalar], otypes=[pt.dscalar])(inner)
    with pm.Model() as model:
        x = pm.Normal("x")
        y = pm.Deterministic("y", op(x) + at("beside it", 1, 2))
        pm.Normal("o", Scaled(at("an Op's property", 2.0, 3.0))(y), 1, observed=0.3)
    return model


class Scaled(Op):
    """An Op of the user's own."""

    __props__ = ("by",)

    def __init__(self, by: float) -> None:
        self.by = by

    def make_node(self, x: Any) -> Any:
        return Apply(self, [pt.as_tensor_variable(x)], [pt.dscalar()])

    def perform(self, node: Any, inputs: Any, outputs: Any) -> None:
        outputs[0][0] = np.asarray(inputs[0] * self.by)


def transformed(at: Place) -> pm.Model:
    transforms = pm.distributions.transforms
    with pm.Model() as model:
        interval = transforms.Interval(0, at("bound of a transform", 5, 6))
        pm.Exponential("x", 1, transform=interval)
        pm.HalfNormal("s", transform=at("transform", transforms.log, transforms.log_exp_m1))
        pm.Normal("free", 0, at("scale by an array", np.ones(20), np.linspace(1, 2, 20)))
        counted = pm.Data("counted", np.arange(3))
        z = pm.Normal("z", shape=3)
        pm.Normal("y", z, 1, observed=counted * at("computed observations", 1.0, 2.0))
    return model


MODELS: dict[str, Callable[[Place], pm.Model]] = {
    function.__name__: function
    for function in (
        hierarchical, mixture, gaussian_process, series_with_scan, autoregression, censored,
        custom_logp, custom_symbolic, potentials, large_regression, counts_with_shared,
        multivariate, black_box, transformed,
    )
}  # fmt: skip


def build(name: str, changed: str | None = None) -> pm.Model:
    """Return a model, with one place of it changed."""
    return _built(name, Place(changed))


def _built(name: str, place: Place) -> pm.Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that change, and of what PyMC infers
        return MODELS[name](place)


def places(name: str) -> list[str]:
    """Return the places of a model that can be changed."""
    place = Place(None)
    _built(name, place)
    return list(dict.fromkeys(place.names))


CHANGES = [(name, place) for name in MODELS for place in places(name)]
