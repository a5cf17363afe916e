/** @file Models by their name on the Hugging Face hub: fetched into the cache that every Hugging Face tool shares. */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { link, mkdir, open, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  getHFHubCachePath,
  getRepoFolderName,
  HubApiError,
  type ListFileEntry,
  listFiles,
  modelInfo,
} from '@huggingface/hub';
import { FaultError, InputError } from '../common/errors.ts';
import { writeWhole } from '../common/files.ts';
import type { Watch } from '../common/progress.ts';

export interface HubOptions extends Watch {
  /** Milliseconds before the first repetition of what failed; each further one waits twice as long. */
  retryDelay?: number;
}

const ATTEMPTS = 5;
/** What a model folder is read from. Models come after, the best one that there is. */
const wanted = new Set([
  'config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.txt',
  'vocab.json',
  'merges.txt',
  'modules.json',
  '1_Pooling/config.json',
  'sentence_bert_config.json',
  'config_sentence_transformers.json',
  'distill.json',
]);

/** Config and weights of a module behind the pooling, such as 2_Dense; safetensors where there are both. */
const isModule = (path: string, all: ReadonlySet<string>): boolean =>
  /^\d+_\w+\/(config\.json|model\.safetensors|pytorch_model\.bin)$/.test(path) &&
  !(path.endsWith('.bin') && all.has(path.replace('pytorch_model.bin', 'model.safetensors')));

/** HF_ENDPOINT, or the hub itself. */
export const endpoint = (): string => (process.env.HF_ENDPOINT ?? 'https://huggingface.co').replace(/\/+$/, '');
export const isOffline = (): boolean => /^(1|true|yes|on)$/i.test(process.env.HF_HUB_OFFLINE ?? '');

/** HF_TOKEN, or what `hf auth login` keeps. @throws InputError where it is no token of the hub */
export async function accessToken(): Promise<string | undefined> {
  const home = process.env.HF_HOME ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface');
  const file = process.env.HF_TOKEN_PATH ?? join(home, 'token');
  const token = (process.env.HF_TOKEN || (await readFile(file, 'utf8').catch(() => ''))).trim();
  if (token && !token.startsWith('hf_'))
    throw new InputError({
      code: 'hub.token',
      subject: process.env.HF_TOKEN ? 'HF_TOKEN' : file,
      expected: "a token that starts with 'hf_'",
      remedy: "copy it again from the hub's settings",
    });
  return token || undefined;
}

/**
 * The folder of a model of the hub: its ONNX file, tokenizer and configs, fetched where the cache lacks them. HF_ENDPOINT,
 * HF_TOKEN, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE are respected.
 *
 * @param name `org/name` or `org/name@revision`
 * @param models paths of ONNX files, the one wanted most first
 * @throws InputError where there is no such model, no right to it or no ONNX file in it; FaultError where the hub fails
 */
export async function hubModel(name: string, models: readonly string[], options: HubOptions = {}): Promise<string> {
  const [repo, revision = 'main'] = name.split('@');
  const storage = join(getHFHubCachePath(), getRepoFolderName({ name: repo, type: 'model' }));
  const ref = join(storage, 'refs', revision);
  const cached = async (): Promise<string | undefined> => {
    const sha = /^[0-9a-f]{40}$/.test(revision) ? revision : (await readFile(ref, 'utf8').catch(() => '')).trim();
    const folder = sha && join(storage, 'snapshots', sha);
    return folder && models.some((m) => existsSync(join(folder, m))) ? folder : undefined;
  };
  if (isOffline()) {
    const folder = await cached();
    if (folder) return folder;
    throw new InputError({
      code: 'hub.offline',
      subject: `${name} is not in the cache ${storage} and HF_HUB_OFFLINE is set`,
      remedy: 'fetch it once with HF_HUB_OFFLINE unset, or give a model folder',
    });
  }
  const token = await accessToken();
  const access = { hubUrl: endpoint(), accessToken: token };
  let sha: string;
  let files: ListFileEntry[];
  try {
    [sha, files] = await repeated(options, async () => {
      const info = await modelInfo({ ...access, name: repo, revision, additionalFields: ['sha'] });
      const entries: ListFileEntry[] = [];
      for await (const f of listFiles({ ...access, repo, revision: info.sha, recursive: true })) entries.push(f);
      return [info.sha, entries];
    });
  } catch (error) {
    const folder = error instanceof HubApiError && error.statusCode < 500 ? undefined : await cached();
    if (!folder) throw explained(error, name);
    note(options, `the hub does not answer; ${name} is taken from the cache`);
    return folder;
  }
  const model = models.find((m) => files.some((f) => f.path === m));
  if (!model)
    throw new InputError({
      code: 'hub.no-onnx',
      subject: `${name} has no ONNX file`,
      expected: `one of ${models.join(', ')}`,
      remedy: 'export it to ONNX (optimum-cli export onnx) and give that folder',
    });
  const snapshot = join(storage, 'snapshots', sha);
  const paths = new Set(files.map((f) => f.path));
  const fetched = files.filter(
    (f) => f.type === 'file' && (wanted.has(f.path) || isModule(f.path, paths) || f.path.startsWith(model)),
  );
  const total = fetched.reduce((n, f) => n + f.size, 0);
  let before = 0;
  for (const file of fetched) {
    options.signal?.throwIfAborted();
    const url = `${access.hubUrl}/${repo}/resolve/${sha}/${file.path.split('/').map(encodeURIComponent).join('/')}`;
    const tell = (bytes: number): void =>
      options.onProgress?.({
        stage: 'download',
        done: Math.round((before + bytes) / 1e6),
        total: Math.round(total / 1e6),
        unit: 'MB',
      });
    try {
      await fetchFile(url, file, storage, snapshot, token, options, tell);
    } catch (error) {
      throw explained(error, name);
    }
    before += file.size;
  }
  if (revision !== sha) await writeWhole(ref, sha);
  return snapshot;
}

/** One file into the cache: blobs by their checksum, the snapshot pointing at them. What was cut off goes on. */
async function fetchFile(
  url: string,
  file: ListFileEntry,
  storage: string,
  snapshot: string,
  token: string | undefined,
  options: HubOptions,
  tell: (bytes: number) => void,
): Promise<void> {
  const pointer = join(snapshot, ...file.path.split('/'));
  if (relative(snapshot, pointer).startsWith('..')) throw new Error(`the hub names a file outside: ${file.path}`);
  if (existsSync(pointer)) return;
  const etag = file.lfs?.oid ?? (file.oid as string);
  const blob = join(storage, 'blobs', etag);
  await mkdir(dirname(blob), { recursive: true });
  await mkdir(dirname(pointer), { recursive: true });
  const part = `${blob}.incomplete`;
  if (!existsSync(blob))
    await repeated(options, async () => {
      await download(url, part, file.size, token, options.signal, tell);
      if ((await checksum(part, file)) !== etag) {
        await rm(part, { force: true });
        throw new FaultError({
          code: 'hub.checksum',
          subject: `${url} gave bytes whose checksum is not ${etag}`,
          remedy: 'try again later',
        });
      }
      await rename(part, blob);
    });
  await rm(pointer, { force: true });
  // Weights outside the model file must lie beside it by their real path, so they are linked hard.
  const soft = !/\.onnx[._]data/.test(file.path);
  await (soft ? symlink(relative(dirname(pointer), blob), pointer) : link(blob, pointer)).catch(() =>
    link(blob, pointer),
  );
}

async function download(
  url: string,
  part: string,
  size: number,
  token: string | undefined,
  signal: AbortSignal | undefined,
  tell: (bytes: number) => void,
): Promise<void> {
  let have = await stat(part).then(
    (s) => s.size,
    () => 0,
  );
  if (have > size) {
    await rm(part, { force: true });
    have = 0;
  }
  if (have === size && size > 0) return;
  const headers: Record<string, string> = token ? { Authorization: `Bearer ${token}` } : {};
  if (have) headers.Range = `bytes=${have}-`;
  const response = await fetch(url, { headers, signal });
  if (!response.ok || !response.body) {
    await response.body?.cancel();
    throw new HubApiError(url, response.status, undefined, `status ${response.status}`);
  }
  // A server that does not know ranges sends the whole.
  const goesOn = response.status === 206;
  if (!goesOn) have = 0;
  const out = await open(part, goesOn ? 'a' : 'w');
  try {
    for await (const chunk of response.body) {
      await out.write(chunk);
      have += chunk.length;
      tell(have);
    }
  } finally {
    await out.close();
  }
  if (have < size) throw new TypeError(`the connection ended after ${have} of ${size} bytes`);
}

/** Of large files the sha256, of others the id that git gives their bytes. */
async function checksum(path: string, file: ListFileEntry): Promise<string> {
  const hash = createHash(file.lfs ? 'sha256' : 'sha1');
  if (!file.lfs) hash.update(`blob ${(await stat(path)).size}\0`);
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Cut connections, overload and wrong bytes may pass; what the hub refuses stays refused. */
async function repeated<T>(options: HubOptions, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++)
    try {
      return await work();
    } catch (error) {
      const final = error instanceof HubApiError && error.statusCode < 500 && error.statusCode !== 429;
      if (final || unreachable(error) || attempt === ATTEMPTS || options.signal?.aborted) throw error;
      note(options, `the hub: ${(error as Error).message}; trying again`);
      await sleep((options.retryDelay ?? 1000) * 2 ** (attempt - 1), undefined, { signal: options.signal });
    }
}

/** Nothing answers at the address: a wait will not help. */
const unreachable = (error: unknown): boolean =>
  ['ENOTFOUND', 'EAI_AGAIN', 'ECONNREFUSED'].includes(
    ((error as Error).cause as NodeJS.ErrnoException | undefined)?.code ?? '',
  );

const note = (options: HubOptions, text: string): void =>
  options.onProgress?.({ stage: 'download', done: 0, unit: 'MB', note: text });

/** What a failure means to the person who named the model. */
export function explained(error: unknown, name: string): unknown {
  if (error instanceof InputError || !(error instanceof Error)) return error;
  const status = error instanceof HubApiError ? error.statusCode : undefined;
  if (status === 401 || status === 403)
    return new InputError({
      code: 'hub.no-access',
      subject: `the hub refuses ${name} (${status})`,
      remedy: 'check its name; if it is private or gated, set HF_TOKEN to a token that may use it',
      cause: error,
    });
  if (status === 404)
    return new InputError({
      code: 'hub.not-found',
      subject: `the hub has no ${name}`,
      remedy: 'give a folder that exists, or the name of a model (org/name) or revision (org/name@revision) of the hub',
      cause: error,
    });
  if (unreachable(error))
    return new InputError({
      code: 'hub.unreachable',
      subject: `${name} is no folder here, and the hub ${endpoint()} cannot be reached`,
      remedy: 'give a folder that exists, or connect',
      cause: error,
    });
  const why = (error.cause as Error | undefined)?.message ?? error.message;
  return new FaultError({
    code: 'hub.failed',
    subject: `the hub failed over ${name} (${status ?? why})`,
    remedy: 'run the same command again: what came is kept; offline, set HF_HUB_OFFLINE=1 to use what is cached',
    cause: error,
  });
}
