"""A trained network as files: module, torch.export program, ONNX, INT8; each is compared with the network."""
