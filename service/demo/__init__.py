"""The demo: a client of the service that compresses the bundled model and compares the two."""
