"""One folder for each question; research does the work."""
