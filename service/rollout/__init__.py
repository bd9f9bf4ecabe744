"""Roll-out: aliases, shadows and canaries, as records in Redis and as changes of them."""
