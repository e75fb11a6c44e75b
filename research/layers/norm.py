"""Layer normalisation, with a backward pass that keeps little and passes over its inputs few times."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.shapes import Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(inputs: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    """Normalises each vector by itself.

        mean = sum_d x[d] / D;  variance = sum_d (x[d] - mean)^2 / D
        y[d] = scale[d] (x[d] - mean) / sqrt(variance + epsilon) + bias[d]

    Only the inputs and two numbers a vector are kept for the gradient, which is by formula and in reverse mode alone:

        n[d] = (x[d] - mean) / sqrt(variance + epsilon);  g[d] = scale[d] dy[d]
        dx[d] = (g[d] - sum_i g[i] / D - n[d] sum_i g[i] n[i] / D) / sqrt(variance + epsilon)

    Args:
      inputs: [..., D].
      scale: [D].
      bias: [D].
      epsilon: above 0.

    Returns:
      [..., D] in the type of the inputs; computed in float32 or better.

    Source: Ba, Kiros, Hinton 2016, arXiv:1607.06450, equations 3 and 4. Differs: epsilon.
    """
    return _forward(inputs, scale, bias, epsilon)[0]


def _forward(inputs, scale, bias, epsilon):
    wide = inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))
    mean = jnp.mean(wide, axis=-1, keepdims=True)
    factor = jax.lax.rsqrt(jnp.mean((wide - mean)**2, axis=-1, keepdims=True) + epsilon)
    outputs = (wide - mean) * factor * scale + bias
    return outputs.astype(inputs.dtype), (inputs, mean, factor, scale, bias)


def _backward(epsilon, kept, of_outputs):
    inputs, mean, factor, scale, bias = kept
    of_outputs, normal = of_outputs.astype(mean.dtype), (inputs.astype(mean.dtype) - mean) * factor
    g = of_outputs * scale
    along, across = jnp.mean(g * normal, axis=-1, keepdims=True), jnp.mean(g, axis=-1, keepdims=True)
    of_inputs = factor * (g - across - normal * along)
    rows = tuple(range(inputs.ndim - 1))
    return (of_inputs.astype(inputs.dtype), jnp.sum(of_outputs * normal, axis=rows).astype(scale.dtype),
            jnp.sum(of_outputs, axis=rows).astype(bias.dtype))


layer_norm.defvjp(_forward, _backward)


class LayerNorm(nn.Module):
    """`layer_norm` and its parameters, scale 1 and bias 0 at the start.

    Attributes:
      epsilon: added to the variance.
      dtype: of the outputs; None means the type that inputs and parameters promote to.
    """

    epsilon: float
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Inputs [..., D] -> [..., D]."""
        scale = self.param('scale', nn.initializers.ones, (inputs.shape[-1],))
        bias = self.param('bias', nn.initializers.zeros, (inputs.shape[-1],))
        dtype = self.dtype or jnp.result_type(inputs, scale, bias)
        return layer_norm(inputs.astype(dtype), scale, bias, self.epsilon)
