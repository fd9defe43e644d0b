"""The exported model: signatures and the preprocessing inside them."""
