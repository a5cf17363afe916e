/** @file Uploads a checkpoint to the Hugging Face hub. */
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { createRepo, HubApiError, uploadFiles } from '@huggingface/hub';
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { accessToken, explained, isOffline } from './hub.ts';
import { endpoint, HubLink, STAND_IN } from './hub-link.ts';
import { isHubName } from './model-folder.ts';

export interface PushOptions extends RunControl {
  private?: boolean;
  branch?: string;
  message?: string;
}

/**
 * Uploads a checkpoint with its card; the repository is made where there is none.
 * @returns the address of the commit
 * @throws InputError where the folder is not a checkpoint or the token has no right; FaultError where the hub fails
 */
export async function pushModel(folder: string, name: string, options: PushOptions = {}): Promise<string> {
  if (!existsSync(join(folder, 'config.json')) || !existsSync(join(folder, 'README.md')))
    throw new InputError({
      code: 'push.no-checkpoint',
      subject: `${folder} has no config.json and README.md`,
      expected: 'a checkpoint with its card',
      remedy: 'give the folder that distill run or distill export wrote',
    });
  if (!isHubName(name) || name.includes('@'))
    throw new InputError({ code: 'push.name', subject: `'${name}' is not a name on the hub`, expected: 'org/name' });
  const token = await accessToken();
  if (!token || isOffline())
    throw new InputError({
      code: 'push.no-token',
      subject: token ? 'HF_HUB_OFFLINE is set' : 'there is no token to push with',
      remedy: token ? 'unset it to push' : 'set HF_TOKEN to a token with write access',
    });
  const { upload } = new HubLink(token, { signal: options.signal });
  const access = { hubUrl: endpoint(), accessToken: STAND_IN, fetch: upload };
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((e) => e.isFile() && !e.name.startsWith('.') && !e.name.endsWith('.part'))
    .map((e) => join(e.parentPath ?? e.path, e.name))
    .sort()
    .map((path) => ({ path: relative(folder, path).split(sep).join('/'), content: pathToFileURL(path) }));
  try {
    await createRepo({ ...access, repo: name, visibility: options.private ? 'private' : undefined }).catch((error) => {
      if (!(error instanceof HubApiError && error.statusCode === 409)) throw error;
    });
    options.onProgress?.({ stage: 'push', done: 0, total: files.length, unit: 'files' });
    const made = await uploadFiles({
      ...access,
      repo: name,
      files,
      branch: options.branch,
      commitTitle: options.message ?? 'Add a student distilled by onnx-distill',
      abortSignal: options.signal,
    });
    options.onProgress?.({ stage: 'push', done: files.length, total: files.length, unit: 'files' });
    return made?.commit.url ?? `${access.hubUrl}/${name}`;
  } catch (error) {
    throw explained(error, name);
  }
}
