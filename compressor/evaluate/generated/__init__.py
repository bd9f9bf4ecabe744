"""Question sets that the project draws itself, without end: training, validation and test by seed."""
