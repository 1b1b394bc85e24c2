"""An argument of `sample` is named in its signature and in `Options`, and listed nowhere else."""

import inspect
from dataclasses import fields

import pytest

import checkpoint
from checkpoint._pymc.setup import Arguments
from checkpoint.errors import UnknownArgumentError
from checkpoint.runs.active import arguments_of
from checkpoint.runs.arguments import Options

NOT_OPTIONS = {"store", "model", "kwargs"}


def parameters():
    return inspect.signature(checkpoint.sample).parameters


def test_options_are_the_arguments_of_sample_with_its_defaults():
    of_sample = {n: p.default for n, p in parameters().items() if n not in NOT_OPTIONS}
    of_options = {f.name: f.default for f in fields(Options) if f.name != "step_kwargs"}
    assert of_options == of_sample


def test_options_are_taken_from_a_call():
    call = {name: f"given {name}" for name in parameters()} | {"kwargs": {"target_accept": 0.9}}
    options = Options.of(call)
    assert options.step_kwargs == {"nuts": {"target_accept": 0.9}}
    for field in fields(Options):
        if field.name != "step_kwargs":
            assert getattr(options, field.name) == f"given {field.name}"


def test_a_misspelt_argument_is_refused():
    call = dict.fromkeys(parameters()) | {"kwargs": {"random_sed": 1}}
    with pytest.raises(UnknownArgumentError, match="Did you mean 'random_seed'"):
        Options.of(call)


def test_the_setup_gets_the_options_that_it_has_a_name_for():
    options = Options(
        draws=3, n_init=7, progressbar="split", compile_kwargs={"fastmath": True, "mode": "JAX"}
    )
    arguments = arguments_of(options, "the model")
    assert arguments == Arguments(
        "the model", draws=3, n_init=7, progressbar=True, compile_kwargs={"mode": "JAX"}
    )
