"""The systems that are compared, one module each; `registry` lists them."""
