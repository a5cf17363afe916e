/** @file A file that stays open and is read in pieces, wherever they are. */
import { closeSync, openSync, readSync } from 'node:fs';
import { damaged } from './checked-files.ts';

/** Files end with the last value that reads them. */
const open = new FinalizationRegistry<number>((fd) => closeSync(fd));

export class OpenFile {
  readonly path: string;
  private readonly fd: number;
  private closed = false;

  constructor(path: string) {
    this.path = path;
    this.fd = openSync(path, 'r');
    open.register(this, this.fd, this);
  }

  /** The bytes of a range. @throws InputError where the file ends before */
  read(from: number, to: number): Buffer<ArrayBuffer> {
    // With a memory of its own, so that numbers can be read in place.
    const bytes = Buffer.allocUnsafeSlow(to - from);
    for (let done = 0; done < bytes.length; ) {
      const n = readSync(this.fd, bytes, done, bytes.length - done, from + done);
      if (!n) throw damaged(`${this.path} is damaged (it ends early)`);
      done += n;
    }
    return bytes;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    open.unregister(this);
    closeSync(this.fd);
  }
}
