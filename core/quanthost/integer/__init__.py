"""The integer form of quantized graphs: rules that rewrite q/dq operators, and the kernels they insert."""
