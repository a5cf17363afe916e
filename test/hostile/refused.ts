import { expect } from 'vitest';
import { InputError } from '../../common/errors.ts';

const megabytes = () => process.memoryUsage().rss / 2 ** 20;

/** That work is refused by a message of ours, soon and in little memory. */
export async function refused(work: () => unknown, message: RegExp, most = 200): Promise<void> {
  const [started, before] = [performance.now(), megabytes()];
  const error = await Promise.resolve()
    .then(work)
    .then(
      () => undefined,
      (e) => e,
    );
  expect(error).toBeInstanceOf(InputError);
  expect(error.message).toMatch(message);
  expect(performance.now() - started).toBeLessThan(5000);
  expect(megabytes() - before).toBeLessThan(most);
}
