"""The gateway: OpenAI-compatible endpoints in front of the workers, and the job endpoints."""
