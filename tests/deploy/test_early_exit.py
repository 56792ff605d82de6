"""A chain of segments gives every sample what it would get alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ofav2_plugins as ofav2
from ofav2_plugins import registry
from ofav2_plugins.deploy.calibration import probabilities
from ofav2_plugins.deploy.early_exit import ExitPolicy, run_chain
from ofav2_plugins.deploy.segments import split_at_exits

RULES = registry.names(registry.EXIT_RULES)


def alone(logits: np.ndarray, policy: ExitPolicy) -> tuple[int, np.ndarray]:
    """The exit and the logits of one sample, from the logits [E, 1, C] of every exit: the definition, in a loop."""
    history = []
    for exit, scores in enumerate(logits):
        history.append(probabilities(scores, policy.temperatures[exit]))
        if exit == len(logits) - 1 or policy.rule.confidence(history).item() >= policy.thresholds[exit]:
            return exit, scores[0]
    raise AssertionError


@given(
    seed=st.integers(0, 2**31),
    n=st.integers(0, 40),
    exits=st.integers(1, 5),
    rule=st.sampled_from(RULES),
    threshold=st.floats(0, 1.5),
)
def test_every_sample_leaves_where_it_would_leave_alone(seed, n, exits, rule, threshold):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((exits, n, 4))
    temperatures = tuple(rng.uniform(0.5, 2, exits).tolist())
    policy = ExitPolicy(registry.load(registry.EXIT_RULES, rule), temperatures, (threshold,) * (exits - 1))
    sizes = []

    def segment(exit: int):
        def run(samples: np.ndarray) -> tuple[np.ndarray, ...]:
            sizes.append(len(samples))
            return (logits[exit][samples],) if exit == exits - 1 else (samples, logits[exit][samples])

        return run

    answers = run_chain([segment(exit) for exit in range(exits)], policy, np.arange(n))
    expected = [alone(logits[:, i : i + 1], policy) for i in range(n)]
    assert answers.exits.tolist() == [exit for exit, _ in expected]
    np.testing.assert_array_equal(answers.logits, np.array([scores for _, scores in expected]).reshape(n, 4))
    # A segment sees only the samples that have not left: that is what saves time.
    assert sizes == [sum(exit >= e for exit, _ in expected) for e in range(len(sizes))]
    assert len(sizes) == max((exit + 1 for exit, _ in expected), default=1)


@pytest.fixture(scope="module")
def net():
    """A multi-exit network whose batch norms are not trivial."""
    supernet = ofav2.build_supernet("EE_DP", n_classes=6, width_mult=0.25)
    supernet.set_active_subnet(ks=5, e=3, d=3, level=("mbconv", "conv1x1"), height=4)
    static = supernet.get_multi_exit_subnet()
    generator = torch.Generator().manual_seed(0)
    static.train()
    with torch.no_grad():
        for _ in range(3):
            static(torch.randn(16, 3, 24, 24, generator=generator))
    return static.eval()


def test_the_segments_of_a_network_compute_what_it_computes(net):
    x = torch.randn(5, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, logits, features = net.forward_exits(x), [], x
        for segment in split_at_exits(net):
            *rest, exit_logits = segment(features)
            logits.append(exit_logits)
            features = rest[0] if rest else features
    assert len(logits) == 4 and not rest
    for got, wanted in zip(logits, expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=0, rtol=0)


def test_a_real_network_answers_alike_for_any_batch(net):
    x = torch.randn(9, 3, 24, 24, generator=torch.Generator().manual_seed(2))
    segments = [torch.no_grad()(segment) for segment in split_at_exits(net)]
    rule = registry.load(registry.EXIT_RULES, "max_prob")
    with torch.no_grad():
        confidences = [probabilities(logits.numpy()).max(axis=1) for logits in net.forward_exits(x)]
    between = tuple(float(np.sort(c)[4:6].mean()) for c in confidences[:-1])  # no sample is at a threshold
    policy = ExitPolicy(rule, (1.0,) * 4, between)
    whole = run_chain(segments, policy, x)
    assert len(set(whole.exits.tolist())) >= 3  # some leave at once, some later, some at the end
    singly = [run_chain(segments, policy, x[i : i + 1]) for i in range(9)]
    assert whole.exits.tolist() == [answer.exits.item() for answer in singly]
    np.testing.assert_allclose(whole.logits, np.concatenate([a.logits for a in singly]), rtol=1e-4, atol=1e-4)
