/** @file `distill cache`: lists, verifies and prunes the cache of teachers' scores and embeddings. */
import { Command } from 'commander';
import { FaultError, InputError } from '../../common/errors.ts';
import type { Verb } from '../terminal/verb.ts';

interface Options {
  folder?: string;
  json?: boolean;
}

const DAY = 24 * 3600 * 1000;
const ages: Readonly<Record<string, number>> = { h: DAY / 24, d: DAY, w: 7 * DAY };
const sizes: Readonly<Record<string, number>> = { B: 1, kB: 1e3, KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 };

/** `30d` or `2GB` by the factors of its units. */
function quantity(text: string, units: Readonly<Record<string, number>>, option: string, example: string): number {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)\s*([A-Za-z]+)$/.exec(text) ?? [];
  if (number === undefined || !Object.hasOwn(units, unit))
    throw new InputError({
      code: 'cache.quantity',
      subject: `${option} '${text}'`,
      expected: `a number and one of ${Object.keys(units).join(', ')}`,
      remedy: `e.g. ${option} ${example}`,
    });
  return Number(number) * units[unit];
}

export const cache: Verb = ({ out }) => {
  const folderOf = async ({ folder }: Options): Promise<string> =>
    folder ?? (await import('../../teachers/cache/score-cache.ts')).defaultCache();
  const verb = (name: string, description: string, example: string): Command =>
    new Command(name)
      .description(description)
      .option('--folder <dir>', 'folder of the cache; ~/.cache/onnx-distill by default')
      .option('--json', 'print the findings as JSON')
      .addHelpText('after', `\nExample:\n  distill cache ${example}`);

  const list = verb('list', 'list what the cache holds: teachers, scores, embeddings, size, last use', 'list').action(
    async (options: Options) => {
      const { survey } = await import('../../teachers/cache/maintenance.ts');
      const { renderSurvey } = await import('../terminal/cache-report.ts');
      const found = await survey(await folderOf(options));
      out.write(options.json ? `${JSON.stringify(found)}\n` : renderSurvey(found));
    },
  );

  const verify = verb('verify', 'check the checksum of every record', 'verify --repair')
    .option('--repair', 'remove damaged records; they are computed again when needed')
    .action(async (options: Options & { repair?: boolean }) => {
      const { verify } = await import('../../teachers/cache/maintenance.ts');
      const { renderDamage } = await import('../terminal/cache-report.ts');
      const found = await verify(await folderOf(options), options.repair);
      out.write(options.json ? `${JSON.stringify(found)}\n` : renderDamage(found, options.repair === true));
      if (!options.repair && (found.damaged.length || found.unreadable))
        throw new FaultError({
          code: 'cache.damaged',
          subject: `the cache ${found.folder} is damaged`,
          remedy: 'remove damaged records with --repair; runs ignore them and compute them again',
        });
    });

  const prune = verb('prune', 'remove records of teachers that are no longer used', 'prune --older-than 30d')
    .option('--older-than <age>', 'age since the last use from which teachers are removed, e.g. 30d')
    .option(
      '--max-size <size>',
      'size that the rest may have, e.g. 2GB; the teachers unused the longest are removed first',
    )
    .action(async (options: Options & { olderThan?: string; maxSize?: string }) => {
      const { olderThan, maxSize } = options;
      if (olderThan === undefined && maxSize === undefined)
        throw new InputError({
          code: 'cache.prune',
          subject: 'prune needs a limit',
          remedy: 'give --older-than 30d, --max-size 2GB or both',
        });
      const { prune } = await import('../../teachers/cache/maintenance.ts');
      const { renderPruned } = await import('../terminal/cache-report.ts');
      const pruned = await prune(await folderOf(options), {
        before: olderThan === undefined ? undefined : Date.now() - quantity(olderThan, ages, '--older-than', '30d'),
        size: maxSize === undefined ? undefined : quantity(maxSize, sizes, '--max-size', '2GB'),
      });
      out.write(options.json ? `${JSON.stringify(pruned)}\n` : renderPruned(pruned));
    });

  return new Command('cache')
    .description("list, verify and prune the cache of teachers' scores and embeddings")
    .addCommand(list)
    .addCommand(verify)
    .addCommand(prune)
    .addHelpText('after', '\nExample:\n  distill cache list\n  distill cache prune --max-size 2GB');
};
