/** @file Activation functions of the module Dense, by the names of PyTorch's classes, with those classes' defaults. */
import type { Expr } from '../../engine/expressions/expr.ts';

const leaky = (x: Expr, slope: number): Expr => x.max(0).add(x.min(0).mul(slope));
const softplus = (x: Expr): Expr => x.max(0).add(x.abs().neg().exp().add(1).log());
/** alpha (e^x - 1) below 0. */
const exponential = (x: Expr, alpha: number): Expr => x.max(0).add(x.min(0).exp().sub(1).mul(alpha));

const SELU_ALPHA = 1.6732632423543772;
const SELU_SCALE = 1.0507009873554805;

export const activations = {
  ELU: (x: Expr) => exponential(x, 1),
  GELU: (x: Expr) => x.mul(x.mul(Math.SQRT1_2).op('Erf').add(1)).mul(0.5),
  Hardtanh: (x: Expr) => x.max(-1).min(1),
  Identity: (x: Expr) => x,
  LeakyReLU: (x: Expr) => leaky(x, 0.01),
  LogSigmoid: (x: Expr) => softplus(x.neg()).neg(),
  Mish: (x: Expr) => x.mul(softplus(x).tanh()),
  ReLU: (x: Expr) => x.relu(),
  ReLU6: (x: Expr) => x.max(0).min(6),
  SELU: (x: Expr) => exponential(x, SELU_ALPHA).mul(SELU_SCALE),
  SiLU: (x: Expr) => x.mul(x.sigmoid()),
  Sigmoid: (x: Expr) => x.sigmoid(),
  Softplus: (x: Expr) => softplus(x),
  Softsign: (x: Expr) => x.div(x.abs().add(1)),
  Tanh: (x: Expr) => x.tanh(),
  Tanhshrink: (x: Expr) => x.sub(x.tanh()),
} as const;

export type Activation = keyof typeof activations;

/** Where PyTorch has the class, as sentence-transformers writes it to a module's config. */
export const activationPath = (name: Activation): string =>
  name === 'Identity' ? 'torch.nn.modules.linear.Identity' : `torch.nn.modules.activation.${name}`;
