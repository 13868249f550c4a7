"""Local Hugging Face folders into the model cache, without torch."""
