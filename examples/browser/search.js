/** @file Embeds a corpus in the page, then answers queries: by transformers.js, or by a static query tower. */
import { env, pipeline } from '/modules/@huggingface/transformers/dist/transformers.web.js';
import { StaticEncoder } from '/static.js';

const element = (id) => document.getElementById(id);
const status = (text) => {
  element('status').textContent = text;
};

env.allowRemoteModels = false;
env.allowLocalModels = true; // off by default in browsers
env.useBrowserCache = false;
env.localModelPath = '/models/';
env.backends.onnx.wasm.wasmPaths = '/modules/onnxruntime-web/dist/';
env.backends.onnx.wasm.numThreads = 1;

const settings = await (await fetch('/settings.json')).json();
const documents = await (await fetch('/corpus.json')).json();
const extract = await pipeline('feature-extraction', 'model', { dtype: settings.dtype, device: 'wasm' });
// The folder says how vectors are pooled, and what stands before a query or a document.
const folderFile = async (name) => {
  const file = await fetch(`/models/model/${name}`);
  return file.ok ? file.json() : {};
};
const { prompts = {} } = await folderFile('config_sentence_transformers.json');
const { pooling_mode_cls_token: first, pooling_mode } = await folderFile('1_Pooling/config.json');
const pooling = first || pooling_mode === 'cls' ? 'cls' : 'mean';
const byModel = async (texts, role) => {
  const prompt = prompts[role] ?? '';
  return (
    await extract(
      texts.map((t) => prompt + t),
      { pooling, normalize: true },
    )
  ).tolist();
};

const found = settings.static ? await fetch('/models/static.safetensors') : undefined;
const tower = found?.ok ? new StaticEncoder(await found.arrayBuffer()) : undefined;
element('towers').hidden = !tower;

const BATCH = 16;
const vectors = [];
for (let at = 0; at < documents.length; at += BATCH) {
  status(`embedding ${at} of ${documents.length} documents`);
  vectors.push(
    ...(await byModel(
      documents.slice(at, at + BATCH).map((d) => `${d.title} ${d.text}`.trim()),
      'document',
    )),
  );
}

async function search(query) {
  const started = performance.now();
  const useTower = tower && document.querySelector('[name=tower]:checked').value === 'static';
  const vector = useTower ? tower.embed(query) : (await byModel([query], 'query'))[0];
  const embedded = performance.now() - started;
  const scores = vectors.map((d) => d.reduce((sum, x, i) => sum + x * vector[i], 0));
  const best = [...scores.keys()].sort((a, b) => scores[b] - scores[a]).slice(0, 10);
  element('results').replaceChildren(
    ...best.map((i) => {
      const item = document.createElement('li');
      item.dataset.id = documents[i].id;
      const title = document.createElement('strong');
      title.textContent = `${documents[i].title || documents[i].id} (${scores[i].toFixed(3)})`;
      const text = document.createElement('p');
      text.textContent = documents[i].text.slice(0, 200);
      item.append(title, text);
      return item;
    }),
  );
  status(`${documents.length} documents; query embedded in ${embedded.toFixed(2)} ms`);
}

element('query').disabled = false;
element('query').addEventListener('input', (event) => event.target.value && search(event.target.value));
for (const radio of document.querySelectorAll('[name=tower]'))
  radio.addEventListener('change', () => element('query').value && search(element('query').value));
status(`${documents.length} documents ready`);
Object.assign(globalThis, { embed: byModel, embedStatic: tower && ((text) => [...tower.embed(text)]) });
document.body.dataset.ready = 'true';
