"""Loads compressed checkpoints into vLLM, as a plugin that vLLM finds by its entry point.

The group is `vllm.general_plugins`; vLLM calls `register` in every process that it starts.
"""

from __future__ import annotations


def register() -> None:
    """Tell vLLM which classes load our architectures; they are imported when one is served."""
    from vllm import ModelRegistry

    package = "service.vllm_plugin"
    for name, module in (
        ("InfoPruneLlavaForConditionalGeneration", "llava"),
        ("InfoPruneLlamaForCausalLM", "llama"),
        ("InfoPruneQwen2_5_VLForConditionalGeneration", "qwen2_5_vl"),
    ):
        ModelRegistry.register_model(name, f"{package}.{module}:{name}")
