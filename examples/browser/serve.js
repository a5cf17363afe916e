/**
 * @file Serves the search page, a model and a corpus on this machine alone.
 *
 * node examples/browser/serve.js --model runs/student/int8 --data demo/data [--static runs/static] [--dtype q8] [--documents 300] [--port 8080]
 */
import { createReadStream, existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, extname, join, normalize, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';

const here = dirname(fileURLToPath(import.meta.url));
const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    data: { type: 'string' },
    static: { type: 'string' },
    dtype: { type: 'string', default: 'q8' },
    documents: { type: 'string', default: '300' },
    module: { type: 'string', default: join(here, '../../dist/static/index.js') },
    port: { type: 'string', default: '8080' },
  },
});
const stop = (message) => {
  console.error(message);
  process.exit(2);
};
if (!values.model || !values.data) stop('usage: serve.js --model FOLDER --data FOLDER [--static FOLDER] [--dtype q8]');
if (!existsSync(values.module)) stop(`${values.module} is missing; run npm run build first`);

/** The first documents of a BEIR folder. */
function corpus() {
  const file = ['corpus.jsonl', 'corpus.jsonl.gz'].map((f) => join(values.data, f)).find(existsSync);
  if (!file) stop(`${values.data} has no corpus.jsonl`);
  const bytes = readFileSync(file);
  const lines = (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString().split('\n').filter(Boolean);
  return lines.slice(0, Number(values.documents)).map((line) => {
    const { _id, title = '', text } = JSON.parse(line);
    return { id: _id, title, text };
  });
}

const require = createRequire(import.meta.url);
const packages = ['@huggingface/transformers', 'onnxruntime-web', 'onnxruntime-common'];
/** Packages' folders, wherever they are installed. */
const folders = new Map(
  packages.map((name) => {
    const entry = require.resolve(name);
    return [name, entry.slice(0, entry.lastIndexOf(join('node_modules', name)) + join('node_modules', name).length)];
  }),
);
const types = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
};
const texts = {
  '/corpus.json': JSON.stringify(corpus()),
  '/settings.json': JSON.stringify({ dtype: values.dtype, static: Boolean(values.static) }),
};

/** The file that an address stands for; undefined where it leads elsewhere. */
function fileOf(path) {
  if (path === '/' || path === '/search.js') return join(here, path === '/' ? 'index.html' : 'search.js');
  if (path === '/static.js') return resolve(values.module);
  if (path === '/models/static.safetensors') return values.static && join(values.static, 'static.safetensors');
  if (path.startsWith('/models/model/')) return join(values.model, path.slice('/models/model/'.length));
  for (const [name, folder] of folders)
    if (path.startsWith(`/modules/${name}/dist/`)) return join(folder, path.slice(`/modules/${name}/`.length));
  return undefined;
}

const server = createServer((request, response) => {
  const path = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname));
  if (texts[path]) return response.writeHead(200, { 'Content-Type': types['.json'] }).end(texts[path]);
  const file = fileOf(path);
  if (!file || !existsSync(file)) return response.writeHead(404).end('not found');
  response.writeHead(200, { 'Content-Type': types[extname(file)] ?? 'application/octet-stream' });
  createReadStream(file).pipe(response);
});
server.listen(Number(values.port), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`));
