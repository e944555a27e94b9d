"""The one-pass Adam, against Keras's own."""

import numpy as np
import pytest

from classify.networks.adam import adam
from classify.networks.dense import dense_head
from extract.network.importing import import_keras


@pytest.mark.slow
@pytest.mark.parametrize("jit", [False, True])
def test_twenty_steps_are_those_of_keras(jit: bool) -> None:
    """From the same weights on the same batches, weights and losses stay the same up to rounding."""
    keras = import_keras()
    random = np.random.default_rng(0)
    batches = [(random.standard_normal((16, 30)).astype("f4"), random.integers(0, 3, 16)) for _ in range(20)]
    ended = []
    for optimizer in (adam(0.01), keras.optimizers.Adam(0.01)):
        keras.utils.set_random_seed(0)
        net = dense_head(30, 3, (20, 10), 0.0, None)
        began = net.get_weights()
        net.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=jit)
        losses = [float(net.train_on_batch(*batch)) for batch in batches]
        ended.append((losses, net.get_weights()))
        assert all(np.abs(new - old).max() > 0.01 for new, old in zip(ended[-1][1], began, strict=True))
    np.testing.assert_allclose(ended[0][0], ended[1][0], rtol=1e-4)
    for ours, reference in zip(ended[0][1], ended[1][1], strict=True):
        np.testing.assert_allclose(ours, reference, atol=2e-5)
