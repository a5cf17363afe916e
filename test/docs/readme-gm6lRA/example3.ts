import { evaluateRun } from '/tmp/wt/fix/evaluation/index.ts';

const run = new Map([['q1', { ids: ['d1', 'd2', 'd3'], scores: [3, 2, 1] }]]);
const judgements = new Map([['q1', new Map([['d2', 1]])]]);
console.log(evaluateRun(run, judgements, ['ndcg@10', 'mrr@10']).means);
