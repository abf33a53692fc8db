"""scikit-learn's own generative classifiers, to see what the shared variance of naive Bayes gains and loses."""

from __future__ import annotations

from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.naive_bayes import GaussianNB

from stages.probe.heads import Head

GAUSSIAN_NB = Head(lambda c: GaussianNB())  # a variance for every class and dimension: a quadratic rule
# One covariance of all dimensions, shrunk as Ledoit and Wolf (2004) say, without which it is not defined for m <= d + k.
LDA = Head(lambda c: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"), beyond_classes=1)
