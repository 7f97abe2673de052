"""What `tests/chart/run` checks, once it has helm and the schemas."""
