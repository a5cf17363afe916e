/** @file Every deferral rule is held to the same shape. */
import { describe, expect, test } from 'vitest';
import { type RuleName, rules } from '../../adaptive/rules/index.ts';
import { FEATURES, featureNames, features } from '../../adaptive/rules/states.ts';
import { Random } from '../../math/random.ts';

const random = Random.of(3, 'rules');
const margin = featureNames.indexOf('margin');
const n = 300;
const data = Float64Array.from({ length: n * FEATURES }, () => random.uniform());
// What is to be gained falls with the margin.
const gains = Float64Array.from(
  { length: n },
  (_, i) => 0.3 * (1 - data[i * FEATURES + margin]) + 0.01 * random.normal(),
);
const wrong = Uint8Array.from(gains, (g) => Number(g > 0.15));

describe.each(Object.keys(rules) as RuleName[])('%s', (name) => {
  const rule = rules[name];
  const parameters = rule.fit({ features: data, gains, wrong });
  test('its parameters are finite numbers that JSON keeps', () => {
    expect(JSON.parse(JSON.stringify(parameters))).toEqual([...parameters]);
    expect(parameters.every(Number.isFinite)).toBe(true);
  });
  test('a query with a clear first document needs the teacher less', () => {
    const student = (first: number) =>
      Float32Array.from([first, ...Array.from({ length: 29 }, (_, i) => 0.6 - 0.01 * i)]);
    const teacher = new Float32Array(30);
    const need = (first: number) => rule.need(features({ student: student(first), teacher }, 0, 0, 0), parameters);
    if (name.startsWith('diff-')) {
      // Fitted on made-up features: only what it was shown can be asked of it.
      const at = (m: number) =>
        rule.need(
          Float64Array.from({ length: FEATURES }, (_, k) => (k === margin ? m : 0.5)),
          parameters,
        );
      expect(at(0.9)).toBeLessThan(at(0.1));
    } else expect(need(0.95)).toBeLessThan(need(0.61));
  });
  test('a constant feature, one query and no gain are not trouble', () => {
    const own = rule.fit({
      features: new Float64Array(2 * FEATURES).fill(1),
      gains: new Float64Array(2),
      wrong: new Uint8Array(2),
    });
    expect(Number.isFinite(rule.need(new Float64Array(FEATURES).fill(1), own))).toBe(true);
  });
  test('says what it is', () => expect(rule.about.length).toBeGreaterThan(10));
});
