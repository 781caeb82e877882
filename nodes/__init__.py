"""The ComfyUI nodes: sockets in, one core function, sockets out. Only `host` knows ComfyUI."""
