/** @file A user-defined loss, named by module path in a config. */
import { existsSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { isAbsolute, relative, resolve, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { InputError } from '../common/errors.ts';
import { defineLoss, type Loss } from './loss.ts';

const REMEDY =
  "export what `defineLoss({ name, needs, perQuery })` of 'onnx-distill/losses' returns, or a function that does";

/**
 * Loads a loss from a file under a folder, or from an installed package.
 *
 * The export is a loss, a function of options that returns one, or a definition `{ name, needs, uses?, perQuery }` of plain
 * fields; `perQuery` is written in the same expressions as the losses here. The module runs with all rights of the process, as
 * any import does: only name modules that you trust.
 *
 * @param module a path that begins with `./`, within `folder`, or the name of an installed package (`name`, `@scope/name`, with
 * a subpath or without)
 * @param exportName which export; the default export where absent
 * @param more `options` are passed to the export if it is a function; `folder` is the config's folder (the working directory by
 * default): paths are relative to it and may not leave it
 * @throws InputError if the path leaves the folder, nothing is found there, or the export is not a loss
 * @example
 * // my-loss.mjs
 * import { defineLoss } from 'onnx-distill/losses';
 * export const absoluteError = ({ scale = 1 } = {}) =>
 *   defineLoss({
 *     name: 'absolute-error',
 *     needs: ['student', 'teacher', 'mask'],
 *     perQuery: ({ student, teacher, mask }) => student.mul(scale).sub(teacher).abs().mul(mask).sum([1]),
 *   });
 */
export async function loadLoss(
  module: string,
  exportName = 'default',
  more: { options?: Record<string, unknown>; folder?: string } = {},
): Promise<Loss> {
  const { options = {}, folder = process.cwd() } = more;
  const place = locate(module, folder);
  let exports: Record<string, unknown>;
  try {
    exports = (await import(place)) as Record<string, unknown>;
  } catch (cause) {
    throw new InputError({
      code: 'loss.module',
      subject: `the module '${module}' of a loss cannot be loaded (${(cause as Error).message.split('\n')[0]})`,
      remedy: 'name JavaScript that Node can import by itself',
      cause,
    });
  }
  if (!(exportName in exports))
    throw new InputError({
      code: 'loss.export',
      subject: `the module '${module}' exports no '${exportName}'`,
      expected: `one of ${Object.keys(exports).join(', ') || 'nothing, since it exports nothing'}`,
    });
  const found = exports[exportName];
  const made = typeof found === 'function' ? (found as (o: object) => unknown)(options) : found;
  return asLoss(made, `'${exportName}' of the module '${module}'`);
}

/** A file within the folder, or what an import of the package's name from there would find. */
function locate(module: string, folder: string): string {
  const wrong = (received: string): never => {
    throw new InputError({
      code: 'loss.module',
      subject: `the module '${module}' of a loss`,
      expected: `a file under ${folder}, written as ./name.js, or an installed package`,
      received,
    });
  };
  if (module.startsWith('.') || isAbsolute(module) || /^[a-z]+:/i.test(module)) {
    if (!module.startsWith('./')) wrong('a path of another kind');
    const path = resolve(folder, module);
    if (!existsSync(path)) wrong('a file that is not there');
    // Symbolic links are resolved before the check.
    const inside = relative(realpathSync(folder), realpathSync(path));
    if (inside === '..' || inside.startsWith(`..${sep}`) || isAbsolute(inside)) wrong('a file outside of it');
    return pathToFileURL(realpathSync(path)).href;
  }
  if (!/^(@[a-z0-9._-]+\/)?[a-z0-9._-]+(\/[^\\]*)?$/i.test(module) || module.split('/').includes('..'))
    wrong('neither');
  try {
    const found = createRequire(pathToFileURL(resolve(folder, 'package.json'))).resolve(module);
    if (!isAbsolute(found)) wrong('a module of Node itself');
    return pathToFileURL(found).href;
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    // A package that exports for `import` alone cannot be resolved here; a file of the folder can import it.
    return wrong(
      (cause as NodeJS.ErrnoException).code === 'ERR_PACKAGE_PATH_NOT_EXPORTED'
        ? 'a package that exports this for import alone (write a file there that exports it again)'
        : 'a package that is not installed there',
    );
  }
}

function asLoss(made: unknown, where: string): Loss {
  const loss = made as Partial<Loss> | null;
  const isDefinition =
    typeof loss === 'object' &&
    loss !== null &&
    typeof loss.name === 'string' &&
    Array.isArray(loss.needs) &&
    typeof loss.perQuery === 'function';
  if (!isDefinition)
    throw new InputError({
      code: 'loss.export',
      subject: where,
      expected: 'a loss',
      received: made === null ? 'null' : typeof made,
      remedy: REMEDY,
    });
  // A loss made by another copy of the toolkit contributes only its definition: expressions belong to one graph.
  return defineLoss({
    name: loss.name as string,
    needs: loss.needs as Loss['needs'],
    uses: loss.uses ?? [],
    perQuery: loss.perQuery as Loss['perQuery'],
  });
}
