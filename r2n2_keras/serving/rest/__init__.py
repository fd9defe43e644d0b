"""A stand-in for TensorFlow Serving's REST API, for development and tests."""
