"""Tables of the family `probe`."""

from __future__ import annotations

from stages.artifacts.schemas.schema import ENCODER, SEED, TARGET, Schema, count, real, share, text

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
            "alpha_or_c": real("the head's regularisation constant, if it has one", nullable=True),
        },
        made_by="tables",
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
}
