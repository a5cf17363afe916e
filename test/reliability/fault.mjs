/**
 * Loaded before the command by the tests of kills (`node --import`): kills the process at a chosen call of the file system or
 * of the cache. $FAULT is JSON: `call` (rename, rm, write, crc32), `path` (a pattern of the path it concerns, the new one of a
 * rename), `when` (before, after, or half: in the middle of writing) and `nth`.
 */
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import zlib from 'node:zlib';

const { call, path = '', when = 'before', nth = 1 } = JSON.parse(process.env.FAULT);
const pattern = new RegExp(path);
let seen = 0;
const due = (name, target) => name === call && pattern.test(String(target)) && ++seen === nth;
const die = () => {
  process.kill(process.pid, 'SIGKILL');
  for (;;);
};

const around = (name, target, work) => {
  if (!due(name, target)) return work();
  if (when === 'before') die();
  return work().then(die);
};
const { rename, rm, open, writeFile } = fs;
fs.rename = (from, to) => around('rename', to, () => rename(from, to));
fs.rm = (target, ...more) => around('rm', target, () => rm(target, ...more));
const half = (content) => Buffer.from(content).subarray(0, Buffer.byteLength(content) >> 1);
fs.writeFile = (target, content, ...more) =>
  due('write', target) ? writeFile(target, half(content)).then(die) : writeFile(target, content, ...more);
fs.open = async (target, ...more) => {
  const file = await open(target, ...more);
  const write = file.writeFile.bind(file);
  file.writeFile = (content) => (due('write', target) ? write(half(content)).then(die) : write(content));
  return file;
};
const { crc32 } = zlib;
zlib.crc32 = (...args) => {
  if (due('crc32', '')) die();
  return crc32(...args);
};
syncBuiltinESMExports();
