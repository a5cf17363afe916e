import { distill, InputError } from '/tmp/wt/fix/index.ts';

const stop = new AbortController();
try {
  const report = await distill(
    {
      data: { path: 'my-data' },
      teacher: { kind: 'cross-encoder', model: 'models/cross-encoder' },
      student: { model: 'models/encoder', layers: [0, 2, 5] },
      train: { steps: 300 },
    },
    { signal: stop.signal, onProgress: ({ stage, done, total }) => console.error(stage, done, total) },
  );
  console.log(report.checkpoint, report.systems);
} catch (error) {
  if (error instanceof InputError) console.error(error.code, error.message);
  else throw error;
}
