/** @file Fetches models by name from the Hugging Face hub into the cache that all Hugging Face tools share. */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { copyFile, link as hardLink, mkdir, open, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { getHFHubCachePath, getRepoFolderName, HubApiError, listFiles, modelInfo } from '@huggingface/hub';
import { explainedSystem, FaultError, InputError, shown } from '../common/errors.ts';
import { writeWhole } from '../common/files.ts';
import { isSilence, isUnreachable, pause, SILENCE } from '../common/http.ts';
import type { RunControl } from '../common/progress.ts';
import {
  checkedCommit,
  checkedFile,
  endpoint,
  type HubFile,
  HubLink,
  isCommit,
  refuseRevision,
  Untrusted,
  untrusted,
} from './hub-link.ts';
import { transformerFiles } from './modules/transformer-config.ts';

export interface HubOptions extends RunControl {
  /** Milliseconds before the first repetition of what failed; each further one waits twice as long. */
  retryDelay?: number;
}

const ATTEMPTS = 5;
/** Milliseconds: a hub that asks to be left alone for longer ends the command with a sentence. */
const LONGEST_WAIT = 5 * 60_000;
const MOST_FILES = 100_000;
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
  ...transformerFiles,
  'chat_template.jinja',
  'config_sentence_transformers.json',
  'distill.json',
]);

/** Config and weights of a module behind the pooling, such as 2_Dense; safetensors where there are both. */
const isModule = (path: string, all: ReadonlySet<string>): boolean =>
  /^\d+_\w+\/(config\.json|model\.safetensors|pytorch_model\.bin)$/.test(path) &&
  !(path.endsWith('.bin') && all.has(path.replace('pytorch_model.bin', 'model.safetensors')));

export const isOffline = (): boolean => /^(1|true|yes|on)$/i.test(process.env.HF_HUB_OFFLINE ?? '');

/** HF_TOKEN of any form, or what `hf auth login` keeps. @throws InputError if it is not valid in a header */
export async function accessToken(): Promise<string | undefined> {
  const home = process.env.HF_HOME ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface');
  const file = process.env.HF_TOKEN_PATH ?? join(home, 'token');
  const token = (process.env.HF_TOKEN || (await readFile(file, 'utf8').catch(() => ''))).trim();
  if (/[^\x21-\x7e]/.test(token))
    throw new InputError({
      code: 'hub.token',
      subject: process.env.HF_TOKEN ? 'HF_TOKEN' : file,
      expected: 'a token: printable ASCII characters without spaces',
      remedy: "copy it again from the hub's settings",
    });
  return token || undefined;
}

const asked = new Map<string, Promise<string>>();

/** Like hubModel, but once per process: a run opens a model several times and must get the same one. */
export function hubFolder(name: string, models: readonly string[], options: HubOptions = {}): Promise<string> {
  const key = JSON.stringify([endpoint(), getHFHubCachePath(), isOffline(), name, models]);
  const known = asked.get(key);
  if (known) return known;
  const found = hubModel(name, models, options);
  asked.set(key, found);
  found.catch(() => asked.delete(key));
  return found;
}

/**
 * The folder of a model of the hub: its ONNX file, tokenizer and configs, fetched where the cache lacks them. HF_ENDPOINT,
 * HF_TOKEN, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE are respected.
 *
 * @param name `org/name` or `org/name@revision`
 * @param models paths of ONNX files, in order of preference
 * @throws InputError where there is no such model, no right to it or no ONNX file in it; FaultError where the hub fails
 */
export async function hubModel(name: string, models: readonly string[], options: HubOptions = {}): Promise<string> {
  const [repo, revision = 'main'] = name.split('@');
  refuseRevision(revision, name);
  const storage = join(getHFHubCachePath(), getRepoFolderName({ name: repo, type: 'model' }));
  const ref = join(storage, 'refs', ...revision.split('/'));
  const cached = async (): Promise<string | undefined> => {
    const sha = isCommit(revision) ? revision : (await readFile(ref, 'utf8').catch(() => '')).trim();
    const folder = isCommit(sha) && join(storage, 'snapshots', sha);
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
  const link = new HubLink(token, options);
  const access = { hubUrl: endpoint(), fetch: link.fetch };
  let sha: string;
  let files: HubFile[];
  try {
    [sha, files] = await repeated(options, link, async () => {
      const info = await modelInfo({ ...access, name: repo, revision, additionalFields: ['sha'] });
      const commit = checkedCommit(info.sha, name);
      const entries: HubFile[] = [];
      for await (const entry of listFiles({ ...access, repo, revision: commit, recursive: true })) {
        const file = checkedFile(entry, name);
        if (file) entries.push(file);
        if (entries.length > MOST_FILES) throw untrusted(name, `it lists more than ${MOST_FILES} files`);
      }
      return [commit, entries];
    });
  } catch (error) {
    const refused = error instanceof InputError || (error instanceof HubApiError && isFinal(error));
    const folder = refused || options.signal?.aborted ? undefined : await cached();
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
  const fetched = files.filter((f) => wanted.has(f.path) || isModule(f.path, paths) || f.path.startsWith(model));
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
      await fetchFile(url, file, storage, snapshot, link, options, tell);
    } catch (error) {
      throw explained(error, name);
    }
    before += file.size;
  }
  if (revision !== sha) await writeWhole(ref, sha);
  return snapshot;
}

/** Fetches a file into the cache: blobs by checksum, linked from the snapshot. Interrupted downloads are resumed. */
async function fetchFile(
  url: string,
  file: HubFile,
  storage: string,
  snapshot: string,
  link: HubLink,
  options: HubOptions,
  tell: (bytes: number) => void,
): Promise<void> {
  const pointer = join(snapshot, ...file.path.split('/'));
  if (existsSync(pointer)) return;
  const blob = join(storage, 'blobs', file.oid);
  await mkdir(dirname(blob), { recursive: true });
  await mkdir(dirname(pointer), { recursive: true });
  const part = `${blob}.incomplete`;
  if (!existsSync(blob))
    await repeated(options, link, async () => {
      await download(url, part, file.size, link, tell);
      if ((await checksum(part, file)) !== file.oid) {
        await rm(part, { force: true });
        throw new FaultError({
          code: 'hub.checksum',
          subject: `${url} gave bytes whose checksum is not ${file.oid}`,
          remedy: 'try again later',
        });
      }
      await rename(part, blob);
    });
  await rm(pointer, { force: true });
  // External weights must be in the model's folder by their real path, so they are hard links.
  const soft = !/\.onnx[._]data/.test(file.path);
  await (soft ? symlink(relative(dirname(pointer), blob), pointer) : hardLink(blob, pointer)).catch(() =>
    hardLink(blob, pointer).catch(() => copyFile(blob, pointer)),
  );
}

async function download(
  url: string,
  part: string,
  size: number,
  link: HubLink,
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
  const response = await link.file(url, have);
  if (!response.ok || !response.body) {
    await response.body?.cancel();
    throw new HubApiError(url, response.status, undefined, `status ${response.status}`);
  }
  // A server without support for ranges sends the whole file.
  const goesOn = response.status === 206;
  if (!goesOn) have = 0;
  const out = await open(part, goesOn ? 'a' : 'w');
  try {
    for await (const chunk of response.body) {
      have += chunk.length;
      if (have > size) break;
      await out.write(chunk);
      tell(have);
    }
  } finally {
    await out.close();
  }
  if (have > size) {
    await rm(part, { force: true });
    throw new FaultError({
      code: 'hub.size',
      subject: `${url} gives more than the ${size} bytes that the hub announced`,
      remedy: 'try again later',
    });
  }
  if (have < size) throw new TypeError(`the connection ended after ${have} of ${size} bytes`);
}

/** Of large files the sha256, of others the id that git gives their bytes. */
async function checksum(path: string, file: HubFile): Promise<string> {
  const hash = createHash(file.large ? 'sha256' : 'sha1');
  if (!file.large) hash.update(`blob ${(await stat(path)).size}\0`);
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** What the hub refuses stays refused; of its client errors, only 'too many requests' passes. */
const isFinal = (error: HubApiError): boolean =>
  error.statusCode < 500 && error.statusCode !== 429 && error.statusCode !== 408;

/** Broken connections, overload and wrong bytes are retried; a hub that does not answer for 30 seconds is not. */
async function repeated<T>(options: HubOptions, link: HubLink, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++)
    try {
      return await work();
    } catch (error) {
      const final = (error instanceof HubApiError && isFinal(error)) || error instanceof Untrusted;
      if (final || isUnreachable(error) || isSilence(error) || attempt === ATTEMPTS || options.signal?.aborted)
        throw error;
      if (explainedSystem(error) !== error) throw error;
      const wait = link.wait() ?? (options.retryDelay ?? 1000) * 2 ** (attempt - 1);
      if (wait > LONGEST_WAIT) throw error;
      note(options, `the hub: ${shown((error as Error).message)}; trying again in ${Math.ceil(wait / 1000)} s`);
      await pause(wait, options.signal);
    }
}

const note = (options: HubOptions, text: string): void =>
  options.onProgress?.({ stage: 'download', done: 0, unit: 'MB', note: text });

/** Turns a failure into a message about the model. */
export function explained(error: unknown, name: string): unknown {
  if (error instanceof InputError || !(error instanceof Error)) return error;
  const system = explainedSystem(error, `keep ${name} in the cache`);
  if (system !== error) return system;
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
  if (isUnreachable(error))
    return new InputError({
      code: 'hub.unreachable',
      subject: `${name} is not a folder here, and the hub ${endpoint()} cannot be reached`,
      remedy: 'give a folder that exists, or connect',
      cause: error,
    });
  if (isSilence(error))
    return new FaultError({
      code: 'hub.silent',
      subject: `the hub ${endpoint()} does not answer over ${name}: nothing came for ${SILENCE / 1000} seconds`,
      remedy: 'run the same command again; offline, set HF_HUB_OFFLINE=1 to use what is cached, or give a model folder',
      cause: error,
    });
  const why = shown((error.cause as Error | undefined)?.message ?? error.message);
  return new FaultError({
    code: 'hub.failed',
    subject: `the hub failed over ${name} (${status ?? why})`,
    remedy:
      'run the same command again: the part already fetched is kept; offline, set HF_HUB_OFFLINE=1 to use what is cached',
    cause: error,
  });
}
