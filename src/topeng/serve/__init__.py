"""An OpenAI-compatible API and a page over the decoder (extra `serve`)."""
