"""What every oracle does with its files: `python -m tests.peers.oracle_NAME CASE OPTIONS GIVEN.npz ANSWER.npz`.

Nothing of the project is imported here or in an oracle: the interpreter is one that has the peer instead. A case is a
function (given, **options) -> outputs, tensors by name in both. It runs once in each type that the options name, with
that type as torch's default. The answer holds the outputs, and the gradients in every array of floats that was given,
of the sum of all outputs, each weighed by the array `cotangent/<output>`.
"""

import json
import math
import os
import sys

import numpy as np

os.environ['HF_HUB_OFFLINE'] = '1'

import torch


def serve(cases):
    """Answers what the command line asks for."""
    case, options, given, answer = sys.argv[1:]
    options = json.loads(options)
    with np.load(given) as file:
        arrays = dict(file)
    torch.set_num_threads(1)
    answers = {}
    for dtype in options.pop('types'):
        torch.set_default_dtype(getattr(torch, dtype))
        for name, array in run(cases[case], arrays, options).items():
            answers[f'{dtype}/{name}'] = array.detach().numpy()
    np.savez(answer, **answers)


def run(case, arrays, options):
    """One case in the default type: outputs and gradients by name."""
    tensors = {name: torch.tensor(array, dtype=torch.get_default_dtype() if array.dtype.kind == 'f' else None)
               for name, array in arrays.items()}
    given = {name: tensor for name, tensor in tensors.items() if not name.startswith('cotangent/')}
    floats = {name: tensor.requires_grad_() for name, tensor in given.items() if tensor.is_floating_point()}
    outputs = case(given, **options)
    answers = {f'output/{name}': output for name, output in outputs.items()}
    if floats:
        total = sum((output * tensors[f'cotangent/{name}']).sum() for name, output in outputs.items())
        gradients = torch.autograd.grad(total, list(floats.values()))
        answers |= {f'gradient/{name}': gradient for name, gradient in zip(floats, gradients, strict=True)}
    return answers


def load(module, weights):
    """Puts tensors in the place of all parameters of a module, so that gradients reach what they were made of."""
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    assert shapes == {name: tuple(tensor.shape) for name, tensor in weights.items()}, (shapes, weights.keys())
    for name, tensor in weights.items():
        path, _, own = name.rpartition('.')
        owner = module.get_submodule(path)
        delattr(owner, own)
        setattr(owner, own, tensor)
    return module


def linear(given, name, called, inputs=1, factor=1.0):
    """The weights of a `torch.nn.Linear`, from a kernel whose first axes, as many as `inputs`, are summed over."""
    kernel = given[f'{name}/kernel']
    weights = {f'{called}.weight': factor * kernel.reshape(math.prod(kernel.shape[:inputs]), -1).T}
    if f'{name}/bias' in given:
        weights[f'{called}.bias'] = factor * given[f'{name}/bias'].flatten()
    return weights


def projections(given, query, key, value, output, at='params', factor=1.0):
    """The weights of the four projections of an attention, by what each is called."""
    return (linear(given, f'{at}/query_projection', query, factor=factor)
            | linear(given, f'{at}/key_projection', key) | linear(given, f'{at}/value_projection', value)
            | linear(given, f'{at}/output_projection', output, inputs=2))
