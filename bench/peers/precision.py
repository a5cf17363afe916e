"""Steps of an encoder of minilm-l6's shape in PyTorch: float32, TF32 and bfloat16 autocast, with fused attention and fused AdamW.

usage: precision.py SIZES CALLS, e.g. 64x64,576x190 4; one JSON line per mode
"""
import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

SIZES = [tuple(map(int, s.split("x"))) for s in sys.argv[1].split(",")]
CALLS = int(sys.argv[2])
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
VOCABULARY, WIDTH, LAYERS, HEADS, INNER, POSITIONS = 30522, 384, 6, 12, 1536, 512


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.inner, self.outer = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.first, self.second = nn.LayerNorm(WIDTH, eps=1e-12), nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, x, mask):
        b, n, _ = x.shape
        heads = lambda y: y.view(b, n, HEADS, -1).transpose(1, 2)
        a = F.scaled_dot_product_attention(heads(self.q(x)), heads(self.k(x)), heads(self.v(x)), attn_mask=mask)
        x = self.first(x + self.out(a.transpose(1, 2).reshape(b, n, WIDTH)))
        return self.second(x + self.outer(F.gelu(self.inner(x))))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places, self.types = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(POSITIONS, WIDTH), nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, ids, shown):
        x = self.words(ids) + self.places(torch.arange(ids.shape[1], device=ids.device)) + self.types(torch.zeros_like(ids))
        x = self.norm(x)
        mask = shown[:, None, None, :].bool()
        for layer in self.layers:
            x = layer(x, mask)
        weights = shown[..., None].float()
        return F.normalize((x.float() * weights).sum(1) / weights.sum(1), dim=-1)


def wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


for mode in ("float32", "tf32", "bfloat16"):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = mode != "float32"
    line = {"engine": f"torch {torch.__version__}", "mode": mode}
    for rows, length in SIZES:
        torch.manual_seed(0)
        model = Encoder().to(DEVICE)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=DEVICE == "cuda")
        ids = torch.randint(1000, 20000, (rows, length), device=DEVICE)
        shown = torch.ones_like(ids)
        half, losses, times = rows // 2, [], []

        def step():
            with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=mode == "bfloat16"):
                vectors = model(ids, shown)
            loss = F.cross_entropy(vectors[:half].float() @ vectors[half:].float().T / 0.05, torch.arange(half, device=DEVICE))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            return loss.detach()

        for _ in range(10):
            losses.append(step())
        for _ in range(CALLS):
            count = 8 if rows > 128 else 32
            wait()
            started = time.time()
            for _ in range(count):
                step()
            wait()
            times.append(1000 * (time.time() - started) / count)
        line[f"{rows}x{length}_ms"] = round(sorted(times)[len(times) // 2], 1)
        line[f"{rows}x{length}_losses"] = [round(float(x), 5) for x in losses]
    print(json.dumps(line), flush=True)
