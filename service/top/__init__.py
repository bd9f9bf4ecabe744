"""`infoprune top`: how compressed models compare with their originals, live in a terminal."""
