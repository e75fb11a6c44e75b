"""How fast a device could be at best: what the FLOPs a second of a training run are a share of."""

import functools
import statistics
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# TFLOP/s of dense matrix products of one device, as jax names it: (bfloat16, float32). What jax does with float32
# unless it is told otherwise decides the second: TF32 on NVIDIA from Ampere on, float32 before it, one pass of bfloat16
# on a TPU (docs.jax.dev, "Matmul precision"). None = it has no units for that type. NVIDIA's data sheets state twice
# the dense rate where they say "with sparsity". A part of a GPU (MIG) has another name and is measured.
TERA = {
    'NVIDIA H100 80GB HBM3': (989.4, 494.7),   # SXM: H100 Tensor Core GPU Architecture, table 2 (whitepaper)
    'NVIDIA H100 PCIe': (756.0, 378.0),        # the same
    'NVIDIA H100 NVL': (835.5, 417.5),         # H100 data sheet: 1,671 and 835 with sparsity
    'NVIDIA H200': (989.5, 494.5),             # H200 data sheet, SXM: 1,979 and 989 with sparsity
    'NVIDIA H200 NVL': (835.5, 418.0),         # the same: 1,671 and 836
    'NVIDIA A100-SXM4-40GB': (312.0, 156.0),   # A100 data sheet
    'NVIDIA A100-SXM4-80GB': (312.0, 156.0),
    'NVIDIA A100-PCIE-40GB': (312.0, 156.0),
    'NVIDIA A100 80GB PCIe': (312.0, 156.0),
    'NVIDIA L4': (121.0, 60.0),                # L4 data sheet: 242 and 120 with sparsity
    'NVIDIA GeForce RTX 4090': (165.2, 82.6),  # Ada GPU Architecture, appendix A (sums in float32)
    'Tesla T4': (None, 8.1),                   # T4 data sheet
    'Tesla V100-SXM2-16GB': (None, 15.7),      # V100 data sheet
    'Tesla V100-SXM2-32GB': (None, 15.7),
    'Tesla V100-PCIE-16GB': (None, 14.0),
    'Tesla V100-PCIE-32GB': (None, 14.0),
    'TPU v4': (275.0, 275.0),                  # cloud.google.com/tpu/docs/v4, a chip; so the next ones
    'TPU v5 lite': (197.0, 197.0),             # v5e
    'TPU v5': (459.0, 459.0),                  # v5p
    'TPU v5p': (459.0, 459.0),
    'TPU v6 lite': (918.0, 918.0),             # v6e
}
SIZE = 1024  # of the product that is measured


class Peak(NamedTuple):
    """FLOPs a second that nothing on this device exceeds, or seldom does."""

    rate: float   # FLOP/s
    known: bool   # of the data sheet; otherwise that of a matrix product, which was measured
    text: str     # which it is, for a reader

    def share(self, rate: float) -> dict[str, float]:
        """What share of it a rate is, by the name that says of what: only of a known peak it is the MFU."""
        return {'mfu' if self.known else 'share_of_matrix_product_rate': rate / self.rate}


@functools.cache
def peak(dtype: str) -> Peak:
    """The peak of the first device in 'float32' or 'bfloat16', measured where it is not known; once a process."""
    kind = jax.devices()[0].device_kind
    known = TERA.get(kind, (None, None))[('bfloat16', 'float32').index(dtype)]
    if known is not None:
        return Peak(1e12 * known, True, f'MFU is the share of {known:,.0f} TFLOP/s, the peak of {kind} in {dtype}')
    rate = matrix_product_rate(dtype)
    return Peak(rate, False, f'no peak is known of {kind} in {dtype}; FLOPs a second are said as a share of the '
                             f'measured matrix-product rate, {rate / 1e9:,.0f} GFLOP/s at {SIZE} x {SIZE}')


def matrix_product_rate(dtype: str, seconds: float = 0.2) -> float:
    """FLOPs a second of a product of SIZE x SIZE matrices: the median of as many as begin within so many seconds."""
    square = jax.device_put(np.full((SIZE, SIZE), 1 / SIZE, jnp.dtype(dtype)))  # no program makes it
    product = jax.jit(jnp.matmul)
    product(square, square).block_until_ready()  # compiles, and warms up
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        begin = time.perf_counter()
        product(square, square).block_until_ready()
        times.append(time.perf_counter() - begin)
    return 2 * SIZE**3 / statistics.median(times)
