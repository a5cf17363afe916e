/** @file Every public name has a docstring: a name that `npm run docs` would leave without text fails here. */
import { relative } from 'node:path';
import { Application, LogLevel, TSConfigReader } from 'typedoc';
import ts from 'typescript';
import { expect, test } from 'vitest';
import manifest from '../../package.json' with { type: 'json' };
import options from '../../typedoc.json' with { type: 'json' };

/** typedoc.json as options of a program. */
async function open(): Promise<Application> {
  const app = await Application.bootstrapWithPlugins({ logLevel: LogLevel.Warn }, [new TSConfigReader()]);
  for (const [name, value] of Object.entries(options)) {
    if (name !== '$schema') app.options.setValue(name as never, value as never);
  }
  app.options.setValue('skipErrorChecking', true); // `npm run types` checks types
  return app;
}

test('the reference covers what package.json exports', () => {
  const exported = Object.values(manifest.exports).flatMap((place) =>
    typeof place === 'string' ? [] : [place.default.replace(/^\.\/dist\/(.*)\.js$/, '$1.ts')],
  );
  expect([...options.entryPoints].sort()).toEqual(exported.sort());
});

test('every name that package.json exports has a docstring', async () => {
  const app = await open();
  const undocumented: string[] = [];
  const other: string[] = [];
  app.logger.warn = (message: string) => {
    const found = /^(\S+) \(\w+\), defined in (\S+), does not have any documentation/.exec(message);
    if (!found) other.push(message);
    // A member of a registry is documented where it is defined.
    else if (!found[1].includes('__type')) undocumented.push(`${found[2].replace(/^[^/]*\//, '')}: ${found[1]}`);
  };
  const project = await app.convert();
  if (!project) throw new Error('typedoc could not read the entry points');
  app.validate(project);
  expect(project.children?.map((c) => c.name)).toEqual(
    options.entryPoints.map((entry) => entry.replace(/\/index\.ts$|\.ts$/, '')).sort(),
  );
  expect(undocumented).toEqual([]);
  expect(other).toEqual([]);
}, 300_000);

test('each docstring has text, not only tags or the text of what it extends', () => {
  const { config } = ts.readConfigFile('tsconfig.json', ts.sys.readFile);
  const { options: compiler } = ts.parseJsonConfigFileContent(config, ts.sys, process.cwd());
  const program = ts.createProgram(options.entryPoints, { ...compiler, noEmit: true });
  const checker = program.getTypeChecker();
  const declared = new Set<ts.Declaration>();
  for (const entry of options.entryPoints) {
    const module = checker.getSymbolAtLocation(program.getSourceFile(entry) as ts.SourceFile) as ts.Symbol;
    for (const name of checker.getExportsOfModule(module)) {
      const symbol = name.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(name) : name;
      for (const declaration of symbol.declarations?.slice(0, 1) ?? []) declared.add(declaration);
    }
  }
  expect(declared.size).toBeGreaterThan(200);
  const without = Array.from(declared).filter((d) => {
    const own = ts.getJSDocCommentsAndTags(d).filter(ts.isJSDoc);
    return !own.some((doc) => ts.getTextOfJSDocComment(doc.comment)?.trim());
  });
  expect(
    without.map(
      (d) => `${relative('.', d.getSourceFile().fileName)}: ${(d as ts.NamedDeclaration).name?.getText() ?? ''}`,
    ),
  ).toEqual([]);
}, 300_000);
