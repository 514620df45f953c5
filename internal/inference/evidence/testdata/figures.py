"""Writes figures.json: what SciPy and NumPy say of the cases that the tests of
this folder's packages compare themselves with. Wherever it can it takes another
way than the Go code does: numerical integration, library distributions.

    "$(tools/venv.sh models/_train/requirements.txt numpy scipy)" internal/inference/evidence/testdata/figures.py
"""

import json
import math
import pathlib

import numpy as np
from scipy import integrate, optimize, stats
from scipy.spatial.distance import jensenshannon

rng = np.random.default_rng(20260101)


def shares(counts, smoothing=0.0):
    counts = np.asarray(counts, dtype=float) + smoothing
    return counts / counts.sum()


def distances(reference, window):
    """PSI is the sum of both relative entropies."""
    p, q = shares(reference, 0.5), shares(window, 0.5)
    return {
        "psi": stats.entropy(p, q) + stats.entropy(q, p),
        "js": float(jensenshannon(shares(reference), shares(window), base=2)),
    }


def numeric(name, reference, window):
    """Every value is a bin, so that binning loses nothing."""
    low, high = min(reference), max(reference)
    window = np.clip(window, low, high)
    edges = np.unique(reference)
    window = edges[np.searchsorted(edges, window).clip(0, len(edges) - 1)]
    test = stats.ks_2samp(reference, window)
    n, m = len(reference), len(window)
    return {
        "name": name,
        "reference": list(reference),
        "window": list(window),
        "ks": float(test.statistic),
        "ks_p": float(stats.kstwobign.sf(math.sqrt(n * m / (n + m)) * test.statistic)),
        **distances([np.sum(reference == e) for e in edges], [np.sum(window == e) for e in edges]),
    }


def categorical(name, reference, window):
    names = sorted(set(reference) | set(window))
    return {
        "name": name,
        "reference": reference,
        "window": window,
        **distances([reference.get(c, 0) for c in names], [window.get(c, 0) for c in names]),
    }


def log_mixture(hits, n, p):
    return stats.betabinom.logpmf(hits, n, 0.5, 0.5) - stats.binom.logpmf(hits, n, p)


def proportion(n, hits, alpha):
    def f(p):
        return log_mixture(hits, n, p) + math.log(alpha)

    rate = hits / n
    low = optimize.brentq(f, 1e-12, rate, xtol=1e-15) if hits else 0.0
    high = optimize.brentq(f, rate, 1 - 1e-12, xtol=1e-15) if hits < n else 1.0
    return {"n": n, "hits": hits, "alpha": alpha, "low": low, "high": high}


def ranks(n, q, alpha):
    inside = [s for s in range(n + 1) if log_mixture(s, n, q) < -math.log(alpha)]
    return {"n": n, "q": q, "alpha": alpha, "low": inside[0], "high": inside[-1] + 1}


def msprt(a, b, effect):
    """The mixture, integrated numerically."""
    (n, k), (m, j) = a, b
    p, q = k / n, j / m
    variance = p * (1 - p) / n + q * (1 - q) / m
    d, sd = j / m - k / n, math.sqrt(variance)
    top, _ = integrate.quad(
        lambda x: stats.norm.pdf(d, x, sd) * stats.norm.pdf(x, 0, effect), -20 * effect, 20 * effect, points=[0, d], epsabs=0, epsrel=1e-11, limit=500
    )
    return {"a": {"n": n, "hits": k}, "b": {"n": m, "hits": j}, "effect": effect, "p": min(1.0, stats.norm.pdf(d, 0, sd) / top)}


def sample_ratio(counts, weights):
    total, prior = sum(counts), 1000 * np.asarray(weights)
    log = stats.multinomial.logpmf(counts, total, weights) - stats.dirichlet_multinomial.logpmf(counts, prior, total)
    return {"counts": counts, "weights": weights, "p": min(1.0, math.exp(log))}


def asymptotic(values, alpha, tuned):
    """std_conjmix_margin of Waudby-Smith et al., with the variance of a sample."""
    t = len(values)
    l = -2 * math.log(alpha)
    rho2 = (l + math.log(l + 1)) / tuned
    margin = values.std(ddof=1) * math.sqrt(2 * (t * rho2 + 1) / (t**2 * rho2) * math.log(math.sqrt(t * rho2 + 1) / alpha))
    return {"values": list(values), "alpha": alpha, "tuned": tuned, "low": values.mean() - margin, "high": values.mean() + margin}


figures = {
    "numeric": [
        numeric("alike", rng.normal(0, 1, 300).round(1), rng.normal(0, 1, 250).round(1)),
        numeric("shifted", rng.normal(0, 1, 300).round(1), rng.normal(0.4, 1.1, 250).round(1)),
        numeric("skewed", rng.exponential(1, 220).round(1), rng.exponential(1.6, 400).round(1)),
    ],
    "categorical": [
        categorical("alike", {"de": 500, "fr": 300, "it": 200}, {"de": 255, "fr": 149, "it": 96}),
        categorical("one is gone", {"de": 500, "fr": 300, "it": 200}, {"de": 300, "fr": 200}),
        categorical("one is new", {"de": 500, "fr": 300}, {"de": 200, "fr": 100, "es": 50}),
    ],
    "kolmogorov": [{"x": x, "p": float(stats.kstwobign.sf(x))} for x in [0.1, 0.25, 0.5, 0.8, 1.0, 1.09, 1.11, 1.36, 1.63, 2.5, 4.0]],
    "proportion": [proportion(*c) for c in [(1, 0, 0.05), (1, 1, 0.05), (100, 0, 0.05), (100, 3, 0.05), (1000, 500, 0.01), (100_000, 120, 0.025), (5000, 5000, 0.05)]],
    "ranks": [ranks(*c) for c in [(10, 0.5, 0.05), (100, 0.5, 0.05), (500, 0.99, 0.05), (2000, 0.99, 0.05), (20_000, 0.99, 0.01)]],
    "msprt": [msprt(*c) for c in [((1000, 100), (1000, 101), 0.02), ((1000, 100), (1000, 160), 0.02), ((20_000, 100), (1500, 14), 0.01), ((150, 20), (150, 21), 0.01)]],
    "sample_ratio": [sample_ratio(*c) for c in [([50, 50], [0.5, 0.5]), ([5200, 4800], [0.5, 0.5]), ([9100, 700, 200], [0.9, 0.08, 0.02])]],
    "mean": [asymptotic(rng.normal(3, 2, 120).round(3), 0.05, 500), asymptotic(rng.exponential(1, 200).round(3), 0.01, 5000)],
}
path = pathlib.Path(__file__).with_name("figures.json")
path.write_text(json.dumps(figures, indent=None, separators=(",", ":")).replace("},{", "},\n{") + "\n")
