"""The API's messages and stubs, generated from ``denoised.proto``."""
