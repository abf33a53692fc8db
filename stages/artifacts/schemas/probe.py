"""Tables of the family `probe`."""

from __future__ import annotations

from stages.artifacts.schemas.schema import ENCODER, SEED, TARGET, WARNING, Column, Schema, count, real, share, text


def _quantile(level: str) -> Column:
    return real(f"{level} quantile over the dimensions of the within-class variance, squared feature units", nullable=True)


SCHEMAS: dict[str, Schema] = {
    "probe_curves": Schema(
        "Which head is better on how many labels?",
        {
            "target": TARGET,
            "encoder": ENCODER,
            "head": text("classifier head"),
            "m": count("training labels"),
            "seed": SEED,
        },
        {
            "error": share("on the whole test split"),
            "mean_per_class_error": share("mean of the classes' errors"),
            "log_loss": real("mean negative log-likelihood of the true class, nats"),
            "calibration_error": share("expected calibration error, over 15 equal bins of the predicted class's confidence"),
            "alpha_or_c": real("the head's regularisation constant, if it has one", nullable=True),
            "warning": WARNING,
        },
        made_by="tables",
        version=2,
    ),
    "probe_crossover": Schema(
        "From how many labels on does logistic regression beat naive Bayes?",
        {"target": TARGET, "encoder": ENCODER},
        {
            "m_star": real("labels at which the mean error curves cross; null where they do not", nullable=True),
            "ci_low": real("2.5% bootstrap quantile of m_star over seeds that cross", nullable=True),
            "ci_high": real("97.5% bootstrap quantile of m_star over seeds that cross", nullable=True),
            "regime": text("`naive_bayes_first`, `logistic_always` or `no_crossing_seen`"),
            "m_to_asymptote_nb": real("labels until naive Bayes is within epsilon of its own best", nullable=True),
            "m_to_asymptote_lr": real("labels until logistic regression is within epsilon of its own best", nullable=True),
        },
        made_by="tables",
    ),
    "probe_assumptions": Schema(
        "How far are the features from what naive Bayes assumes, and who won?",
        {"target": TARGET, "encoder": ENCODER},
        {
            "n": count("training images"),
            "d": count("feature dimensions"),
            "n_classes": count("classes in the training split"),
            "n_constant": count("dimensions that do not vary within any class, left out below"),
            "variance_q05": _quantile("5%"),
            "variance_q25": _quantile("25%"),
            "variance_q50": _quantile("50%"),
            "variance_q75": _quantile("75%"),
            "variance_q95": _quantile("95%"),
            "within_share": share("median over the dimensions of within-class over total variance", nullable=True),
            "mean_absolute_correlation": share("between dimensions within classes, mean over the pairs", nullable=True),
            "correlation_by_chance": real("the same on independent Gaussian dimensions", nullable=True),
            "effective_rank_share": share("share of the dimensions that as many uncorrelated ones make up", nullable=True),
            "shrinkage": share("Ledoit-Wolf weight of the identity in the correlation matrix", nullable=True),
            "divergence_per_dim": real(
                "total correlation within classes over dimensions, nats; 0 is naive Bayes", nullable=True
            ),
            "winner_at_fewest": text("head with the lower mean error at the fewest labels; null for a tie", nullable=True),
            "winner_at_most": text("head with the lower mean error at the most labels; null for a tie", nullable=True),
            "naive_bayes_error": share("at the most labels, mean over the seeds", nullable=True),
            "logistic_error": share("at the most labels, mean over the seeds", nullable=True),
            "regime": text("as in `probe_crossover`"),
            "warning": WARNING,
        },
        made_by="tables",
    ),
    "sample_complexity": Schema(
        "How many examples does each head need on mixtures of n dimensions?",
        {
            "k": count("classes of the mixture"),
            "n_dims": count("dimensions of the mixture"),
            "head": text("classifier head"),
            "seed": SEED,
        },
        {
            "m_to_epsilon": count("examples until this seed's error is within epsilon of Bayes error", nullable=True),
            "error_at_m": share("this seed's error there, or at the most examples tried"),
            "m_of_mean": count("examples until the mean error over the seeds is within epsilon of Bayes error", nullable=True),
            "bayes_error": share("the least possible error, in closed form"),
            "warning": WARNING,
        },
        made_by="sample_complexity",
    ),
    "sample_complexity_fits": Schema(
        "Do the examples that each head needs grow like log n or like n?",
        {
            "k": count("classes of the mixture"),
            "head": text("classifier head"),
            "law": text("`log`: m_of_mean = intercept + slope ln n; `linear`: intercept + slope n"),
        },
        {
            "slope": real("examples for each unit of ln n or n", nullable=True),
            "intercept": real("examples", nullable=True),
            "r2": real("share of the variance of m_of_mean over n that the law explains", nullable=True),
            "n_points": count("values of n fitted"),
            "warning": WARNING,
        },
        made_by="sample_complexity",
    ),
    "logistic_bound": Schema(
        "How much error does the logistic loss rule out, and how much is there?",
        {
            "k": count("classes of the mixture"),
            "n_dims": count("dimensions of the mixture"),
            "seed": SEED,
            "m": count("training examples"),
        },
        {
            "excess_log_loss": real("of logistic regression over the Bayes rule, nats, exact at the test points"),
            "excess_error": share("of logistic regression over the Bayes rule, exact at the test points"),
            "error_bound": share("the most excess error that this excess loss allows"),
        },
        made_by="sample_complexity",
    ),
}
