"""The network: layers, the R2N2 model, presets. Keras and NumPy only, for every Keras backend."""
