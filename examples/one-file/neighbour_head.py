"""A head in one file: a spot expresses what the five training spots of most similar embedding express on average.

stzoo predict SECTION --plugin neighbour_head.py --head neighbours --reference MEASURED --out predicted.h5ad
"""

from dataclasses import dataclass

import numpy as np
import stzoo


@stzoo.hookimpl
def stzoo_heads():
    return [stzoo.HeadSpec("neighbours", "neighbour_head:NeighbourHead", "mean of the five most similar spots")]


@dataclass
class NeighbourHead:
    genes: tuple
    keys: np.ndarray  # (n, d), embeddings of the training spots
    values: np.ndarray  # (n, g), their log-normalised expression

    @classmethod
    def fit(cls, embedding, expression, group, genes, *, seed=0, start=None):
        return cls(genes, embedding.astype(np.float32), expression.astype(np.float32))

    def predict(self, embedding, genes=None):
        if embedding.shape[1] != self.keys.shape[1]:
            wanted = f"expected {self.keys.shape[1]}"
            raise stzoo.UsageError(f"the embedding has {embedding.shape[1]} columns, {wanted}", todo="fit it again")
        wanted, columns = stzoo.gene_columns(self.genes, genes)
        distance = ((embedding[:, None] - self.keys[None]) ** 2).sum(axis=2)  # (m, n)
        near = np.argsort(distance, axis=1, kind="stable")[:, :5]
        mean = self.values[near].mean(axis=1)[:, columns].astype(np.float32)
        spread = self.values[near].std(axis=1)[:, columns].astype(np.float32)
        return stzoo.Prediction(mean, wanted, "neighbours", spread)

    def tensors(self):
        return {"keys": self.keys, "values": self.values}

    def description(self):
        return {"genes": list(self.genes)}

    @classmethod
    def restored(cls, tensors, description):
        if set(tensors) != {"keys", "values"}:
            raise stzoo.WeightsError(f"tensors {sorted(tensors)}, expected keys and values", todo="save it again")
        return cls(tuple(description["genes"]), tensors["keys"], tensors["values"])
