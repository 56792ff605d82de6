"""Temperature scaling and the calibration error against values known otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from ofav2_plugins.deploy.calibration import calibration_error, fit_temperature, probabilities


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature):
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((20000, 5))
    drawn = softmax(logits / temperature, axis=1).cumsum(axis=1)
    labels = (rng.random((20000, 1)) > drawn).sum(axis=1).clip(max=4)
    assert fit_temperature(logits.astype(np.float32), labels) == pytest.approx(temperature, rel=0.03)


def test_probabilities_are_the_softmax_at_a_temperature():
    logits = np.random.default_rng(1).standard_normal((7, 4)).astype(np.float32) * 100
    np.testing.assert_allclose(probabilities(logits, 2.5), softmax(logits.astype(float) / 2.5, axis=1))


def test_calibration_error_by_hand():
    # Two bins of the confidence: (0.6, 0.6; one right) and (0.9, 0.95, 1.0; all right).
    found = np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.05, 0.95], [1.0, 0.0]])
    labels = np.array([0, 1, 0, 1, 0])
    by_hand = (2 * abs(0.5 - 0.6) + 3 * abs(1 - 0.95)) / 5
    assert calibration_error(found, labels, bins=4) == pytest.approx(by_hand)  # bins end at 0.25, 0.5, 0.75, 1


def test_calibrated_predictions_have_no_error():
    rng = np.random.default_rng(2)
    found = softmax(2 * rng.standard_normal((50000, 3)), axis=1)
    labels = (rng.random((50000, 1)) > found.cumsum(axis=1)).sum(axis=1).clip(max=2)
    assert calibration_error(found, labels) < 0.01
    assert calibration_error(probabilities(np.log(found), 0.4), labels) > 0.05
