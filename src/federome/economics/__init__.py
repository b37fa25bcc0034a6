"""Economic evaluation: decision and cohort models from readable files, compared, stressed and reported."""
