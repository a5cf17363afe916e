import { kl } from '/tmp/wt/fix/losses/index.ts';

// Two queries with three candidates each: one value per query, and the gradient of their mean.
const loss = kl({ temperature: 2, studentTemperature: 2 });
const { values, gradients } = await loss.evaluate({
  student: [
    [0.2, 0.1, 0.4],
    [0.9, 0.3, 0.1],
  ],
  teacher: [
    [2.1, -0.3, 0.5],
    [4.0, 1.0, -2.0],
  ],
});
console.log(values, gradients.student);
