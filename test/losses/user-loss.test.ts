import { mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { loadLoss } from '../../losses/index.ts';

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'user-loss-'));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  writeFileSync(
    join(folder, 'mine.js'),
    `export const absoluteError = ({ scale = 1 } = {}) => ({
      name: 'absolute-error',
      needs: ['student', 'teacher', 'mask'],
      perQuery: ({ student, teacher, mask }) => student.mul(scale).sub(teacher).abs().mul(mask).sum([1]),
    });
    export default absoluteError();
    export const number = 3;`,
  );
  writeFileSync(join(folder, 'broken.js'), 'export const = ;');
  const outside = mkdtempSync(join(tmpdir(), 'elsewhere-'));
  writeFileSync(join(outside, 'other.js'), 'export default 1;');
  symlinkSync(join(outside, 'other.js'), join(folder, 'link.js'));
});

test('a loss of a file gives values and gradients as any other, with options', async () => {
  const loss = await loadLoss('./mine.js', 'absoluteError', { folder, options: { scale: 2 } });
  const { loss: value, gradients } = await loss.evaluate({ student: [[1, 2]], teacher: [[1, 5]] });
  expect(value).toBe(2);
  expect(Array.from(gradients.student ?? [])).toEqual([2, -2]);
  expect((await loadLoss('./mine.js', undefined, { folder })).name).toBe('absolute-error');
});

test.each([
  ['./mine.js', 'absolute', /exports no 'absolute': expected one of absoluteError, default, number$/],
  ['./mine.js', 'number', /'number' of the module '\.\/mine\.js': expected a loss, received number; export what/],
  ['./none.js', undefined, /written as \.\/name\.js, or an installed package, received a file that is not there$/],
  ['./broken.js', undefined, /cannot be loaded \(.*\); name JavaScript that Node can import by itself$/],
  ['../mine.js', undefined, /received a path of another kind$/],
  ['./../mine.js', undefined, /received a file (that is not there|outside of it)$/],
  ['./link.js', undefined, /received a file outside of it$/],
  ['/elsewhere/loss.js', undefined, /received a path of another kind$/],
  ['https://example.org/loss.js', undefined, /received a path of another kind$/],
  ['data:text/javascript,0', undefined, /received a path of another kind$/],
  ['fs', undefined, /received a module of Node itself$/],
  ['no-such-package-here', undefined, /received a package that is not installed there$/],
  ['package/../../x', undefined, /received neither$/],
])('%s %s is refused with a reason', async (module, name, message) => {
  await expect(loadLoss(module, name, { folder })).rejects.toThrow(message);
});
