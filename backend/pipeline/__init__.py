"""The batch story: train, sample, judge, trace, publish; and the command line that tells it."""
