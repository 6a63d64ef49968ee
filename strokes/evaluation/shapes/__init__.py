"""The shapes benchmark: prompts, arms, judged trials, measures, report."""
