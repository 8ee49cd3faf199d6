"""What other tools of the field read and write: directions, answers with scores. Nothing in a file is ever run."""
