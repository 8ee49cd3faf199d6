"""One file that says what a study shall be, and what is left to do until it is: recipe, stages, plan, run."""
