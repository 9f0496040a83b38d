"""A kind of protocol in one file: whether predictions rank the spots of an unseen section as its counts do.

stzoo evaluate rank.yaml --data FOLDER --plugin rank_protocol.py (rank.yaml has kind: rank, train, test, genes, rows)
"""

from dataclasses import dataclass, field

import numpy as np
import stzoo
from scipy.stats import spearmanr


@stzoo.hookimpl
def stzoo_tasks():
    return [stzoo.TaskSpec("rank", "rank_protocol:RankTask", "rank correlation over the spots of unseen sections")]


@dataclass
class RankProtocol(stzoo.SplitProtocol):
    """Rank the spots of test sections.

    Parameters
    ----------
    genes
        Genes that are scored.
    """

    genes: list[str] = field(default_factory=list)


class RankTask(stzoo.SplitTask):
    schema = RankProtocol
    part = "section"
    columns = (stzoo.Column("spearman", "Spearman", 3),)

    def score(self, row, seed):
        genes = self.protocol.genes
        predicted = self.models.predict(row, seed, genes, self.train, self.blind)  # blind: without counts
        found = {}
        for section, guess in zip(self.test, predicted, strict=True):
            truth = section.expression(genes, target=self.protocol.target)
            rho = [spearmanr(truth[:, i], guess[:, i]).statistic for i in range(len(genes))]
            found[section.name] = {"spearman": float(np.nan_to_num(rho).mean())}
        return found
