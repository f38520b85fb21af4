"""Tags as a map: vectors, a picture of them, and files for TensorBoard's projector."""
