"""Things to play with what was trained: widgets for notebooks, the same in a page without a kernel, export to ONNX."""
