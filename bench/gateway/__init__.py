"""What a gateway adds to a request: ours, a bare pass-through, LiteLLM and vllm-router in one run."""
