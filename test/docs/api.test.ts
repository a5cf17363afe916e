/** @file Every public name has a docstring: a name that `npm run docs` would leave without text fails here. */
import { relative } from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';
import manifest from '../../package.json' with { type: 'json' };
import options from '../../typedoc.json' with { type: 'json' };

test('the reference covers what package.json exports', () => {
  const exported = Object.values(manifest.exports).flatMap((place) =>
    typeof place === 'string' ? [] : [place.default.replace(/^\.\/dist\/(.*)\.js$/, '$1.ts')],
  );
  expect([...options.entryPoints].sort()).toEqual(exported.sort());
});

test('every name that package.json exports has a docstring with text, not only tags or the text of what it extends', () => {
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
