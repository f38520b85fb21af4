"""Places on paper for vectors, of tags or of songs: principal components, or t-SNE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Method = Literal["tsne", "pca"]
MOST_NEIGHBOURS: Final = 30.0
"""t-SNE's perplexity where there are vectors enough, scikit-learn's default."""
EXACT: Final = 1000
"""Vectors up to which t-SNE compares each with each: the same places on every machine's number of cores."""


@dataclass(frozen=True)
class Layout:
    """Where vectors stand.

    Attributes:
        places: float64 [vectors, 2].
        method: how they were found, in words.
        axes: what the two directions mean; empty where they mean nothing.
    """

    places: npt.NDArray[np.float64]
    method: str
    axes: tuple[str, str] = ("", "")


def lay_out(vectors: Vectors, method: Method = "tsne", seed: int = 0) -> Layout:
    """Find a place for each of float32 [vectors, width], each of length 1; the same ones for the same vectors and seed.

    t-SNE (van der Maaten and Hinton 2008) keeps neighbours together and begins at the principal components; how far
    groups are apart means little. Its perplexity is a third of the others, at most MOST_NEIGHBOURS. Distances are
    those of vectors of length 1, so neighbours are those with the largest cosines.
    """
    from sklearn.manifold import TSNE

    components, shares = principal_components(vectors)
    if method == "pca":
        first, second = (f"{100 * share:.0f} % of the variance" for share in shares)
        return Layout(components, "principal components", (f"first component, {first}", f"second component, {second}"))
    count = len(vectors)
    perplexity = min(MOST_NEIGHBOURS, max(1.0, (count - 1) / 3))
    spread = components[:, 0].std()
    tsne = TSNE(
        n_components=2,
        perplexity=perplexity,
        init=(components / spread * 1e-4 if spread > 0 else components).astype(np.float32),
        method="exact" if count <= EXACT else "barnes_hut",
        random_state=seed,
    )
    places = tsne.fit_transform(vectors).astype(np.float64)
    return Layout(places, f"t-SNE, perplexity {perplexity:.3g}")


def principal_components(vectors: Vectors) -> tuple[npt.NDArray[np.float64], tuple[float, float]]:
    """First two principal components, float64 [vectors, 2], and their shares of the variance."""
    from sklearn.decomposition import PCA

    pca = PCA(n_components=min(2, *vectors.shape), svd_solver="full")
    scores, shares = np.zeros((len(vectors), 2)), np.zeros(2)
    with np.errstate(invalid="ignore"):  # vectors that are all the same vary in nothing
        kept = pca.fit_transform(vectors.astype(np.float64))
    scores[:, : kept.shape[1]] = kept
    shares[: kept.shape[1]] = np.nan_to_num(pca.explained_variance_ratio_)
    return scores, (float(shares[0]), float(shares[1]))
