/** @file A local server that speaks the chat protocol, for tests. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export type Answer = (
  body: { messages: { content: string }[]; model: string },
  response: ServerResponse,
  n: number,
) => void;
export const closing: (() => void)[] = [];

/** Ends every server of a test. */
export const closeAll = (): void => {
  for (const close of closing.splice(0)) close();
};

export async function server(answer: Answer): Promise<{ url: string; calls: { auth?: string; content: string }[] }> {
  const calls: { auth?: string; content: string }[] = [];
  const s = createServer(async (request: IncomingMessage, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    const body = JSON.parse(text);
    calls.push({ auth: request.headers.authorization, content: body.messages[0].content });
    answer(body, response, calls.length);
  });
  await new Promise<void>((resolve) => s.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    s.closeAllConnections();
    s.close();
  });
  return { url: `http://127.0.0.1:${(s.address() as AddressInfo).port}/v1`, calls };
}

export const say = (response: ServerResponse, content: unknown, tokens = 10): void => {
  response.setHeader('content-type', 'application/json');
  response.end(
    JSON.stringify({ choices: [{ message: { role: 'assistant', content } }], usage: { total_tokens: tokens } }),
  );
};
export const fail = (response: ServerResponse, status: number, headers: Record<string, string> = {}): void => {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify({ error: { message: `error ${status}` } }));
};
