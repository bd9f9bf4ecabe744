"""How the bundled vision-language model is made: data, tokenizer, packing, training loop."""
