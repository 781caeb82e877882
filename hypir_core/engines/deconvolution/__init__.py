"""Richardson and Lucy's deconvolution as an engine: the classic without a network."""
