"""A stand-in for TensorFlow Serving's REST API, for development and tests.

It answers predict, status and metadata requests with the real server's status codes and numbers, in
error texts of its own. It knows no classify, regress, gRPC or batching, and refuses JSON that is
not UTF-8 and tensors of more than 30 axes. `process.run` starts it.
"""
