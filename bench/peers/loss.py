"""PyTorch's side of `npm run bench -- loss`: loss.py QUERIES CANDIDATES CALLS, in float64, value and gradient"""
import json, sys, time

import torch
import torch.nn.functional as F

torch.set_num_threads(1)
queries, candidates, calls = map(int, sys.argv[1:4])
n = queries * candidates
student = torch.tensor([[((i * candidates + j) * 37 % 101) / 101 for j in range(candidates)] for i in range(queries)], dtype=torch.float64)
teacher = torch.tensor([[((i * candidates + j) * 53 % 89) / 10 for j in range(candidates)] for i in range(queries)], dtype=torch.float64)


def once():
    s = student.clone().requires_grad_()
    p = torch.log_softmax(teacher, 1)
    q = torch.log_softmax(s / 0.05, 1)
    values = F.kl_div(q, p, log_target=True, reduction="none").sum(1)
    loss = values.mean()
    loss.backward()
    return values.tolist(), loss.item(), s.grad


for _ in range(50):
    values, loss, gradient = once()
times = []
for _ in range(calls):
    started = time.perf_counter()
    once()
    times.append(time.perf_counter() - started)
times.sort()
print(json.dumps({"engine": "torch", "queries": queries, "candidates": candidates,
                  "us_a_call": round(1e6 * times[calls // 2], 1), "loss": round(loss, 9)}))
