"""The online half of denoised: a gRPC service that denoises images with ONNX Runtime."""
