"""The pure functions against what the methods' own code gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from snn.functional import integrate_fire, lsq, parallel_fire, qcfs, st_bif, uniform_quantize
from snn.functional.time_axis import fold, unfold

from .reference import arrays, cases

pytestmark = pytest.mark.reference


def close(actual: Tensor, expected: Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=0, atol=atol)


def test_qcfs_forward_and_backward() -> None:
    data = arrays("parallel_conversion/qcfs_forward_backward")
    # Rounding ties and both ends of the window; their output gradient is one.
    data["edges_t4_up1.0_grad_out"] = torch.ones_like(data["edges_t4_up1.0_x"])
    for prefix in cases(data, "_grad_out"):
        levels = int(prefix.split("_")[1].removeprefix("t"))
        x = data[f"{prefix}_x"].clone().requires_grad_()
        threshold = data[f"{prefix}_up"].clone().requires_grad_()
        y = qcfs(x, threshold, levels)
        y.backward(data[f"{prefix}_grad_out"])
        close(y, data[f"{prefix}_y"])
        close(x.grad, data[f"{prefix}_grad_x"])
        close(threshold.grad, data[f"{prefix}_grad_up"], atol=1e-4)


def test_parallel_neuron() -> None:
    data = arrays("parallel_conversion/parainf_neuron")
    prefixes = cases(data, "const_x") + cases(data, "varying_x") + cases(data, "ties_T4_x")
    for prefix in prefixes:
        kind = next(k for k in ("const", "varying", "ties_T4") if f"{prefix}{k}_x" in data)
        key = f"{prefix}{kind}"
        steps = int(key.split("_T")[1].split("_")[0])
        spikes = parallel_fire(unfold(data[f"{key}_x"], steps), data[f"{key}_theta"])
        close(fold(spikes), data[f"{key}_y"])


def test_parallel_neuron_sees_the_whole_window() -> None:
    data = arrays("parallel_conversion/parainf_neuron")
    x, theta = unfold(data["causality_x"], 8), data["causality_theta"]
    close(fold(parallel_fire(x, theta)), data["causality_y"])
    later = unfold(data["causality_x_laststep_plus3"], 8)
    close(fold(parallel_fire(later, theta)), data["causality_y_laststep_plus3"])
    close(fold(parallel_fire(x[data["causality_perm"]], theta)), data["causality_y_perm"])
    assert not torch.equal(data["causality_y"], data["causality_y_laststep_plus3"])


def test_channel_wise_parallel_neuron() -> None:
    data = arrays("parallel_conversion/parainf_cw_nd")
    for prefix in cases(data, "_psi"):
        steps = int(prefix.split("_T")[1])
        current = unfold(data[f"{prefix}_x"], steps)
        spikes = parallel_fire(
            current, data[f"{prefix}_pre_th"], shift=data[f"{prefix}_psi"], height=data[f"{prefix}_post_th"]
        )
        close(fold(spikes), data[f"{prefix}_y"])
        close(spikes.mean(0), data[f"{prefix}_da_qcfs_of_mean_x"])


def test_integrate_and_fire_starts_anew_in_each_window() -> None:
    data = arrays("parallel_conversion/if_neuron")
    for prefix in cases(data, "_v_after"):
        x, theta = data[f"{prefix}_x"], data[f"{prefix}_theta"]
        steps = x.shape[0] // 2
        for window in (slice(0, steps), slice(steps, None)):
            spikes, _ = integrate_fire(x[window], theta)
            close(spikes, data[f"{prefix}_y"][window])
            # After the last step the reference has already put its membrane back.
            for t in range(1, steps):
                _, membrane = integrate_fire(x[window][:t], theta)
                close(membrane, data[f"{prefix}_v_after"][window][t - 1], atol=1e-5)


def test_integrate_and_fire_per_channel() -> None:
    data = arrays("parallel_conversion/if_neuron")
    for steps in (1, 2, 4, 8):
        spikes, _ = integrate_fire(data[f"channel_T{steps}_x"], data[f"channel_T{steps}_theta"])
        close(spikes, data[f"channel_T{steps}_y"])


def test_recorded_maximum_of_a_dead_channel_is_not_a_threshold() -> None:
    """The reference records a channel's largest input, negative where it is dead: a named defect, not matched."""
    data = arrays("parallel_conversion/rec_relu")
    from snn.quantizers.qcfs import QCFS
    from snn.quantizers.thresholds import estimate_threshold

    quantizer = QCFS(levels=4)
    quantizer.observe(10_000)
    for batch in ("b0", "b1", "b2"):
        # Like the reference, a ReLU while it records.
        close(quantizer(data[f"{batch}_x"])[:, :2], data[f"{batch}_y"][:, :2])
    threshold = estimate_threshold(quantizer, "max")
    reference = data["b2_up"].flatten()
    close(threshold[:2], reference[:2])
    assert reference[2] < 0
    assert threshold[2] == threshold[:2].min()


def test_lsq_forward_and_backward() -> None:
    data = arrays("spikezip/lsq_forward_backward")
    from snn.quantizers.lsq import LSQ

    for prefix in cases(data, "_grad_out"):
        bounds = int(data[f"{prefix}_neg_min"]), int(data[f"{prefix}_pos_max"])
        levels, signed = int(data[f"{prefix}_level"]), bool(data[f"{prefix}_sym"])
        assert LSQ(levels, signed=signed).bounds == bounds
        x = data[f"{prefix}_x"].clone().requires_grad_()
        step = data[f"{prefix}_s"].clone().requires_grad_()
        y = lsq(x, step, *bounds)
        y.backward(data[f"{prefix}_grad_out"])
        close(y, data[f"{prefix}_y"])
        close(x.grad, data[f"{prefix}_grad_x"])
        close(step.grad, data[f"{prefix}_grad_s"], atol=1e-5)


def test_lsq_scales_the_gradient_of_the_step_alone() -> None:
    data = arrays("spikezip/lsq_forward_backward")
    for prefix in cases(data, "_grad_scale"):
        bounds = int(data[f"{prefix}_neg_min"]), int(data[f"{prefix}_pos_max"])
        gradients = {}
        for function in (lsq, uniform_quantize):
            step = data[f"{prefix}_s"].clone().requires_grad_()
            function(data[f"{prefix}_x"], step, *bounds).backward(data[f"{prefix}_grad_out"])
            gradients[function] = step.grad
        close(gradients[lsq], data[f"{prefix}_grad_scale"] * gradients[uniform_quantize])
        assert torch.equal(data[f"{prefix}_s_effective"], data[f"{prefix}_s"])


@pytest.mark.parametrize(("prefix", "init"), [("lsqinteger", "ema20"), ("myquan", "first_batch")])
def test_lsq_steps_of_the_first_batches(prefix: str, init: str) -> None:
    data = arrays("spikezip/lsq_init")
    from snn.quantizers.lsq import LSQ

    quantizer = LSQ(int(data["level"]), signed=bool(data["sym"]), granularity="tensor", init=init)
    assert quantizer.bounds == (data["neg_min"], data["pos_max"])
    for x, step, y in zip(data[f"{prefix}_x"], data[f"{prefix}_s_after"], data[f"{prefix}_y"]):
        got = quantizer(x)
        close(quantizer.threshold[0], step)
        close(got, y, atol=1e-5)
    unsigned = LSQ(int(data["level"]), signed=False, granularity="tensor", init=init)
    unsigned(data[f"{prefix}_x"][0])
    close(unsigned.threshold[0], data["unsigned_first_s"])


def test_st_bif() -> None:
    data = arrays("spikezip/st_bif")
    from snn.quantizers.lsq import LSQ

    for prefix in cases(data, "_quantized_sum"):
        bounds = LSQ(int(data[f"{prefix}_level"]), signed=bool(data[f"{prefix}_sym"])).bounds
        threshold = data[f"{prefix}_threshold"]
        spikes = st_bif(data[f"{prefix}_x"], threshold, *bounds)
        close(spikes, data[f"{prefix}_out"])
        assert torch.equal((spikes / threshold).round().cumsum(0), data[f"{prefix}_tracer"])
        close(spikes.sum(0), data[f"{prefix}_quantized_sum"], atol=1e-5)
