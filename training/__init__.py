"""The offline half of denoised: makes denoising autoencoders and exports them to ONNX."""
