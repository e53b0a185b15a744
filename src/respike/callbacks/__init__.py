"""Lightning callbacks that run at the end of the test: convert, simulate, measure, log."""
