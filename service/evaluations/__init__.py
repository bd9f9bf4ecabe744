"""Online evaluations: a dataset asked of served models, through the gateway, behind its clients."""
