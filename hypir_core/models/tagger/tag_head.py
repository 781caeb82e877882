"""The tag head: every label looks at the picture's cells and says how sure it is that it is there.

Zhang et al., "Recognize Anything", arXiv 2306.03514, section 3, after Query2Label (Liu et al., arXiv 2107.10834). Two
layers of BERT without self-attention; the modules carry the names that the published checkpoint uses.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

HEADS = 4
"""Attention heads; their number cannot be read from the tensors."""

EPS = 1e-12


class TagHead(nn.Module):
    """Labels [b labels width], cells [b cells tokens] → labels that have seen the cells, [b labels width]."""

    def __init__(self, *, width: int, token_width: int, mlp_width: int, layers: int):
        super().__init__()
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(_Layer(width, token_width, mlp_width) for _ in range(layers))}
        )

    def forward(self, labels: Tensor, tokens: Tensor) -> Tensor:
        """Return the labels after all layers."""
        for layer in self.encoder["layer"].children():
            labels = layer(labels, tokens)
        return labels


class _Layer(nn.Module):
    def __init__(self, width: int, token_width: int, mlp_width: int):
        super().__init__()
        self.crossattention = nn.ModuleDict(
            {"self": _Look(width, token_width), "output": _AddAndNorm(width, width)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, mlp_width)})
        self.output = _AddAndNorm(mlp_width, width)

    def forward(self, labels: Tensor, tokens: Tensor) -> Tensor:
        seen = self.crossattention["self"](labels, tokens)
        labels = self.crossattention["output"](seen, labels)
        return self.output(F.gelu(self.intermediate["dense"](labels)), labels)


class _Look(nn.Module):
    def __init__(self, width: int, token_width: int):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key, self.value = nn.Linear(token_width, width), nn.Linear(token_width, width)

    def forward(self, labels: Tensor, tokens: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in (self.query(labels), self.key(tokens), self.value(tokens))
        )
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class _AddAndNorm(nn.Module):
    def __init__(self, width: int, out_width: int):
        super().__init__()
        self.dense, self.LayerNorm = nn.Linear(width, out_width), nn.LayerNorm(out_width, eps=EPS)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + residual)
