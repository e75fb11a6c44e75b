"""rliable, by the authors of the interquartile mean: `python -m tests.peers.oracle_rliable CASE OPTIONS GIVEN ANSWER`.

It takes runs as rows and tasks as columns; ours are tasks of runs. It needs pandas below 3, as arch 7 does.
"""

import sys

import numpy as np
from rliable import library, metrics


def point_and_interval(scores, function, reps=50_000):
    """A function of scores, and its stratified bootstrap interval: [3]."""
    np.random.seed(1)  # rliable draws from NumPy's own state, whatever it is given
    points, intervals = library.get_interval_estimates({'arm': scores}, lambda x: np.array([function(x)]), reps=reps)
    return np.concatenate([points['arm'], *intervals['arm']])


def main():
    """Answers with all that ours is compared by, for arms `a` and `b` [tasks, runs] and `thresholds`."""
    *_, given, answer = sys.argv
    with np.load(given) as file:
        a, b, thresholds = file['a'].T, file['b'].T, file['thresholds']
    np.savez(answer, interquartile=point_and_interval(a, metrics.aggregate_iqm),
             difference=point_and_interval(a - b, np.mean),
             improvement=metrics.probability_of_improvement(a, b),
             profile=library.score_distributions(a, thresholds))


if __name__ == '__main__':
    main()
